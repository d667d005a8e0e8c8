"""Our frozen view of one Sentinel-2 item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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
        """Year of the acquisition in UTC, which is that of the catalog for the scene."""
        return self.datetime.year


_FIRST_BASELINE_WITH_OFFSET = 4
_OFFSET_DN = -1000


def reflectance_offset_dn(processing_baseline: str) -> int:
    """Return what is added to a digital number before it is divided by 10000: -1000 or 0.

    From processing baseline 04.00 on, L2A products have a ``BOA_ADD_OFFSET``, so that dark noise does not become
    negative; Earth Engine's harmonised collection removes it, the Planetary Computer does not.
    """
    major = processing_baseline.partition(".")[0]
    return _OFFSET_DN if major.isdecimal() and int(major) >= _FIRST_BASELINE_WITH_OFFSET else 0
