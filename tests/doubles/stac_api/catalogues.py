"""One scene as three catalogues have it: the Planetary Computer, Earth Search, the Copernicus Data Space Ecosystem.

The forms are those of real items: ``datetime`` is the datatake's start but for Earth Search, which gives the tile's own
sensing time; names of platforms, tiles and ids differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.doubles.stac_api.items import make_item

Json = dict[str, Any]
_COMPACT = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Pass:
    """A tile seen in a datatake that began at ``start``, ``delay`` after it; ``strip`` is the datastrip's own start."""

    tile: str
    start: datetime
    platform: str = "S2B"
    delay: timedelta = timedelta(minutes=7, seconds=12)
    strip: datetime | None = None
    bbox: tuple[float, float, float, float] = (-50.0, -23.0, -49.0, -22.0)

    @property
    def text(self) -> str:
        return self.start.strftime(_COMPACT)

    @property
    def strip_text(self) -> str:
        return (self.strip or self.start).strftime(_COMPACT)


def make_planetary(seen: Pass, made: str = "20201008T100849", baseline: str = "02.12") -> Json:
    compact = baseline.replace(".", "")
    item_id = f"{seen.platform}_MSIL2A_{seen.text}_R081_T{seen.tile}_{made}"
    return make_item(
        item_id,
        seen.start.strftime("%Y-%m-%dT%H:%M:%S.024000Z"),
        seen.tile,
        seen.bbox,
        **{
            "platform": f"Sentinel-2{seen.platform[-1]}",
            "s2:datatake_id": f"G{seen.platform}_{seen.text}_009268_N{baseline}",
            "s2:datastrip_id": f"{seen.platform}_OPER_MSI_L2A_DS_ESRI_{made}_S{seen.strip_text}_N{baseline}",
            "s2:product_uri": f"{seen.platform}_MSIL2A_{seen.text}_N{compact}_R081_T{seen.tile}_{made}.SAFE",
        },
    )


def make_earth_search(
    seen: Pass, sequence: int = 0, created: str = "2022-11-06T10:14:16.681Z", *, named: bool = True
) -> Json:
    """Without ``named`` it tells neither datatake nor product, as early items do."""
    zone = seen.tile[:2].lstrip("0")
    moment = seen.start + seen.delay
    item_id = f"{seen.platform}_{zone}{seen.tile[2:]}_{moment:%Y%m%d}_{sequence}_L2A"
    product = f"{seen.platform}_MSIL2A_{seen.text}_N0500_R081_T{seen.tile}_20230624T053545.SAFE"
    names = {
        "s2:product_uri": product,
        "s2:datatake_id": f"G{seen.platform}_{seen.text}_009268_N05.00",
        "s2:datastrip_id": f"{seen.platform}_OPER_MSI_L2A_DS_S2RP_20230624T053545_S{seen.strip_text}_N05.00",
    }
    item = make_item(
        item_id,
        moment.strftime("%Y-%m-%dT%H:%M:%S.327000Z"),
        seen.tile,
        seen.bbox,
        **{
            "created": created,
            "updated": "2023-10-07T12:09:07.273Z",
            "platform": f"sentinel-2{seen.platform[-1].lower()}",
            "grid:code": f"MGRS-{zone}{seen.tile[2:]}",
            "mgrs:utm_zone": int(zone),
            "mgrs:latitude_band": seen.tile[2],
            "mgrs:grid_square": seen.tile[3:],
            "s2:sequence": str(sequence),
            **(names if named else {}),
        },
    )
    del item["properties"]["s2:mgrs_tile"]
    return item


def make_copernicus(seen: Pass, published: str = "2024-04-01T00:00:00.000000Z") -> Json:
    item = make_item(
        f"{seen.platform}_MSIL2A_{seen.text}_N0500_R081_T{seen.tile}_20230624T053545",
        seen.start.strftime("%Y-%m-%dT%H:%M:%S.024000Z"),
        seen.tile,
        seen.bbox,
        **{
            "created": "2024-03-31T00:00:00.000000Z",
            "updated": "2025-01-01T00:00:00.000000Z",
            "published": published,
            "platform": f"sentinel-2{seen.platform[-1].lower()}",
            "grid:code": f"MGRS-{seen.tile}",
            "eopf:datatake_id": f"G{seen.platform}_{seen.text}_009268_N05.00",
            "eopf:datastrip_id": f"{seen.platform}_OPER_MSI_L2A_DS_2BPS_20230624T053545_S{seen.strip_text}_N05.00",
        },
    )
    del item["properties"]["s2:mgrs_tile"]
    return item
