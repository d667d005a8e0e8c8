"""Our frozen view of one Sentinel-2 item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flows.scene.grid import Grid


@dataclass(frozen=True, slots=True)
class Scene:
    """What deriving a mask needs to know of an item; built by ``flows.stac.source_item``.

    Angles are in degrees, the azimuth clockwise from north. ``asset_hrefs`` maps asset keys to
    unsigned hrefs.
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

    @property
    def year(self) -> int:
        """Year of the acquisition, UTC: the leaf of the catalog that holds the scene."""
        return self.datetime.year
