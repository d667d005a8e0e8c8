"""The mosaic's STAC item."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pystac

from flows.mosaic.document import MosaicParts, build_mosaic_item, name_files
from flows.mosaic.reducers import Reducer
from flows.scene.grid import Grid
from tests.mosaic.observations import build_observation
from tests.offline_validator import OfflineValidator


def area(ring: list[list[float]]) -> float:
    return sum(x * north - east * y for (x, y), (east, north) in pairwise(ring)) / 2


def build_item(grid: Grid, tmp_path: Path) -> dict[str, Any]:
    files = name_files(tmp_path / "mosaic.tif")
    for path in (files.raster, files.preview):
        path.write_bytes(b"")
    return build_mosaic_item(
        MosaicParts(
            files=files,
            grid=grid,
            bands=("B04",),
            reducer=Reducer.MEDIAN,
            observations=[build_observation()],
            base="https://masks.example.org",
            now=datetime(2026, 1, 2, tzinfo=UTC),
            with_plain=False,
        )
    )


def test_a_mosaic_across_the_antimeridian_is_in_two_parts(
    tmp_path: Path, stac_validator: OfflineValidator
) -> None:
    # Fiji: zone 1 begins at 180 degrees, which is 181 km east of its origin here.
    grid = Grid("EPSG:32701", (20.0, 0.0, 170_240.0, 0.0, -20.0, 8_096_020.0), (570, 1074))
    item = build_item(grid, tmp_path)

    west, south, east, north = item["bbox"]
    assert 179.8 < west < 180
    assert -180 < east < -179.8
    assert -17.4 < south < north < -17.1
    assert item["geometry"]["type"] == "MultiPolygon"
    sides = [{longitude > 0 for longitude, _ in part[0]} for part in item["geometry"]["coordinates"]]
    assert sorted(sides, key=str) == [{False}, {True}]
    assert all(area(part[0]) > 0 for part in item["geometry"]["coordinates"]), "counterclockwise"
    pystac.Item.from_dict(item).validate(validator=stac_validator)
