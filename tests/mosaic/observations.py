"""Observations for tests that read no catalog."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pc_cloudmask.catalog.layout import ItemKeys, YearKeys
from pc_cloudmask.mosaic.compose import Observation
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.scene import Scene

GRID = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (60, 90))


def build_observation(
    number: int = 0,
    grid: Grid = GRID,
    *,
    baseline: str = "02.12",
    pass_id: str | None = None,
    clear_pct: float = 50.0,
    hrefs: Mapping[str, str] | None = None,
) -> Observation:
    """The observation of day ``number``."""
    moment = datetime(2018, 1, 1, 13, tzinfo=UTC) + timedelta(days=number)
    scene = Scene(
        id=f"S2B_{number:03d}",
        datetime=moment,
        tile="22KFV",
        platform="Sentinel-2B",
        grid=grid,
        solar_azimuth_deg=96.5,
        solar_zenith_deg=23.6,
        datatake_id=pass_id or f"GS2B_{number}",
        datastrip_id="",
        processing_baseline=baseline,
        footprint={"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
        asset_hrefs={},
    )
    keys = ItemKeys(YearKeys("22KFV", 2018), scene.id)
    return Observation(scene, keys, hrefs or {}, f"{keys.prefix}mask.tif", clear_pct)
