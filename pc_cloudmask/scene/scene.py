"""Our frozen view of one Sentinel-2 item, and the names of MGRS tiles, items and products."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.grid import Grid


@dataclass(frozen=True, slots=True)
class Scene:
    """What deriving a mask needs to know about an item; built by ``pc_cloudmask.source.item``.

    Angles are in degrees, the azimuth clockwise from north. ``asset_hrefs`` maps asset keys to unsigned hrefs,
    ``asset_grids`` to the grids that the item gives for the asset: a COG without a CRS must lie on one of them.
    ``nodata_pct`` is the percentage of the tile without data, None if the item does not give it.
    """

    id: str
    datetime: datetime
    tile: str
    platform: str
    grid: Grid
    solar_azimuth_deg: float
    solar_zenith_deg: float
    datatake_id: str
    datastrip_id: str
    processing_baseline: str
    footprint: Mapping[str, Any] = field(hash=False)
    asset_hrefs: Mapping[str, str] = field(hash=False)
    nodata_pct: float | None = None
    asset_grids: Mapping[str, Sequence[Grid]] = field(default_factory=dict, hash=False)

    @property
    def year(self) -> int:
        """Return the year of the acquisition in UTC, which is that of the catalog for the scene."""
        return self.datetime.year


def reflectance_offset_dn(processing_baseline: str) -> int:
    """Return what is added to a digital number before it is divided by 10000: -1000 or 0.

    From processing baseline 04.00 on, L2A products have a ``BOA_ADD_OFFSET``, so that dark noise does not become
    negative; Earth Engine's harmonised collection removes it, the Planetary Computer does not.
    """
    major = processing_baseline.partition(".")[0]
    return -1000 if major.isdecimal() and int(major) >= 4 else 0


#: Keys of the assets that we add to an item.
MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET = "cloudmask", "cloudmask-preview", "cloud-probability"
#: Zone, latitude band and the 100 km square in them, such as ``22KFV``.
TILE_FORM = re.compile(r"(?:0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]")
#: A product's id: what was seen and where, then when the product was made; in between, ESA names the baseline.
PRODUCT_FORM = re.compile(
    r"(?P<start>S2[A-Z]_MSIL2A_\d{8}T\d{6}_)(?:N\d{4}_)?(?P<place>R\d{3}_T[0-9A-Z]{5}_)(?P<made>\d{8}T\d{6})",
    re.ASCII,
)
_EXAMPLE = "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531"
#: What may follow an id in a file name.
_ENDINGS = re.compile(r"(?:\.(?:SAFE|zip|json|geojson|xml))+$", re.IGNORECASE)
_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
#: Names of marks in an item's folder, which also contains a document named after the item's id.
_RESERVED_ID = re.compile(r"withdrawn|superseded-by-.*")


def check_tile(tile: str, item_id: str = "?") -> str:
    """Return ``tile``, which becomes part of a key; raise InvalidField if it is not an MGRS tile such as ``22KFV``."""
    if not TILE_FORM.fullmatch(tile):
        raise InvalidField(item_id, "s2:mgrs_tile", f"{tile!r:.40} is not an MGRS tile such as 22KFV")
    return tile


def check_item_id(item_id: Any) -> str:
    """Return ``item_id``, which becomes part of a key; raise InvalidField if no item can have it."""
    if not isinstance(item_id, str) or not _ITEM_ID.fullmatch(item_id):
        shown = repr(item_id)[:60] if isinstance(item_id, str) else "?"
        raise InvalidField(shown, "id", "is not 1 to 128 letters, digits, '_' or '-'")
    if _RESERVED_ID.fullmatch(item_id):
        raise InvalidField(item_id, "id", "is a name that the catalog keeps for itself")
    return item_id


def is_item_id(text: str) -> bool:
    """Return True if ``text`` may be an item's id."""
    return bool(_ITEM_ID.fullmatch(text)) and not _RESERVED_ID.fullmatch(text)


def parse_item_id(text: str) -> str:
    """Return the id in a user's name for an item: the id, a product's name or file, or the item's URL.

    Raises:
        ValueError: no item can have this id; the text says what to write.
    """
    last = urlsplit(text.strip()).path if "://" in text else text.strip()
    item_id = _ENDINGS.sub("", unquote(last).rstrip("/").rpartition("/")[2])
    if not is_item_id(item_id):
        raise ValueError(f"no item's id; write one such as {_EXAMPLE}, or the item's URL")
    if re.match(r"S2[A-Z]_MSIL1", item_id):
        raise ValueError(
            f"a product of Level-1C; masks belong to those of Level-2A, whose ids are such as {_EXAMPLE}"
        )
    return item_id


def drop_baseline(item_id: str) -> str:
    """Return a product's id as the Planetary Computer writes it, without the baseline, ``_N0510``, in ESA's."""
    product = PRODUCT_FORM.fullmatch(item_id)
    return f"{product['start']}{product['place']}{product['made']}" if product else item_id
