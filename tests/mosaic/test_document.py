"""The item of a mosaic."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.mosaic.mosaic import build_mosaic_item
from pc_cloudmask.mosaic.plan import MosaicPlan, MosaicRequest
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.query import build_query
from tests.mosaic.observations import build_observation


def build_item(folder: Path, grid: Grid) -> dict[str, Any]:
    request = MosaicRequest(folder / "m.tif", build_query(tiles=["22KFV"]), bands=("B04",))
    request.outputs.raster.write_bytes(b"raster")
    request.outputs.preview.write_bytes(b"preview")
    plan = MosaicPlan([build_observation(grid=grid)], grid, [])
    return build_mosaic_item(request, plan, "https://h", datetime(2026, 11, 24, tzinfo=UTC))


def signed_area(ring: list[list[float]]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2


@pytest.mark.parametrize(
    ("crs", "kind", "crosses"),
    [("EPSG:32701", "MultiPolygon", True), ("EPSG:32702", "Polygon", False)],
)
def test_a_mosaic_across_the_antimeridian_is_cut_there(
    crs: str, kind: str, crosses: bool, tmp_path: Path
) -> None:
    """180° lies at an easting of 182 km here: 50 x 70 km of Fiji."""
    item = build_item(tmp_path, Grid(crs, (100.0, 0.0, 150_000.0, 0.0, -100.0, 8_000_000.0), (500, 700)))
    geometry, (west, south, east, north) = item["geometry"], item["bbox"]
    assert geometry["type"] == kind
    assert (west > east) is crosses
    assert (east - west) % 360 < 1
    assert -18.6 < south < north < -18.0
    rings = [part[0] for part in geometry["coordinates"]] if crosses else geometry["coordinates"]
    for ring in rings:
        assert ring[0] == ring[-1]
        assert signed_area(ring) > 0
    assert sum(map(signed_area, rings)) == pytest.approx((east - west) % 360 * (north - south), rel=0.1)
