"""The mosaic's grid, and its blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.mosaic.plan import BYTES_PER_VALUE, SMALLEST_PX, build_target_grid, find_bounds, plan_blocks
from pc_cloudmask.scene.grid import Grid
from tests.mosaic.observations import build_observation

EAST = Grid("EPSG:32722", (20.0, 0.0, 601_000.0, 0.0, -20.0, 7_499_440.0), (60, 90))
OTHER_ZONE = Grid("EPSG:32723", (20.0, 0.0, 300_000.0, 0.0, -20.0, 7_500_040.0), (60, 90))


def test_without_a_box_the_grid_covers_every_observation_on_their_pixels() -> None:
    grid = build_target_grid([build_observation(0), build_observation(1, EAST)], ["B11", "B04"])
    assert grid == Grid("EPSG:32722", (10.0, 0.0, 600_000.0, 0.0, -10.0, 7_500_040.0), (180, 280))


def test_pixels_are_those_of_the_finest_band_or_as_asked() -> None:
    observations = [build_observation()]
    assert build_target_grid(observations, ["B11"]).shape == (60, 90)
    assert build_target_grid(observations, ["B01"]).shape == (20, 30)
    grid = build_target_grid(observations, ["B04"], pixel_size_m=70)
    # 60 rows of 20 m take 17.14 pixels of 70 m.
    assert (grid.shape, grid.transform[5]) == ((18, 26), 7_500_040.0)


def test_the_most_frequent_zone_is_the_mosaics() -> None:
    observations = [build_observation(0), build_observation(1, OTHER_ZONE), build_observation(2, OTHER_ZONE)]
    assert build_target_grid(observations, ["B04"], bbox=(-50.0, -22.7, -49.9, -22.6)).crs == "EPSG:32723"
    grid = build_target_grid(observations, ["B04"], bbox=(-50.0, -22.7, -49.9, -22.6), crs="EPSG:32722")
    west, south, east, north = grid.bounds
    assert (west % 10, north % 10) == (0.0, 0.0)
    assert find_bounds(grid, "EPSG:4326") == pytest.approx((-50.0, -22.7, -49.9, -22.6), abs=2e-3)
    assert (south, east) == (north - 10 * grid.shape[0], west + 10 * grid.shape[1])


@pytest.mark.parametrize("crs", ["EPSG:32760", "EPSG:32701"])
def test_a_box_across_the_antimeridian_is_one_small_grid(crs: str) -> None:
    there = Grid(crs, (20.0, 0.0, 600_000.0, 0.0, -20.0, 8_000_000.0), (60, 90))
    grid = build_target_grid([build_observation(0, there)], ["B04"], bbox=(179.95, -18.1, -179.95, -18.0))
    assert grid.crs == crs
    height, width = grid.shape
    assert 1000 < height < 1300
    assert 1000 < width < 1200


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"crs": "EPSG:4326"}, "metres"),
        ({"crs": "EPSG:2263"}, "metres"),  # New York in US survey feet
        ({"crs": "EPSG:99999999"}, "--crs"),
        ({"crs": "<xml/>"}, "--crs"),
        ({"pixel_size_m": 0.0}, "--resolution"),
        ({"pixel_size_m": float("nan")}, "--resolution"),
        ({"bbox": (-60.0, -30.0, -40.0, -10.0)}, "--resolution"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_in_one_line(options: dict[str, object], hint: str) -> None:
    with pytest.raises(SettingsError) as error:
        build_target_grid([build_observation()], ["B04"], **options)  # type: ignore[arg-type]
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


@given(
    height=st.integers(1, 1500),
    width=st.integers(1, 1500),
    count=st.integers(1, 60),
    megabytes=st.integers(1, 64),
)
def test_blocks_cover_the_grid_once_and_fit_into_memory(
    height: int, width: int, count: int, megabytes: int
) -> None:
    grid = Grid("EPSG:32722", (10.0, 0.0, 600_000.0, 0.0, -10.0, 7_500_040.0), (height, width))
    observations = [build_observation(number, grid) for number in range(count)]
    covered = np.zeros(grid.shape, np.uint8)
    for block in plan_blocks(grid, observations, megabytes << 20):
        covered[block.window.slices] += 1
        assert block.observations == tuple(observations)
        size = count * block.window.height * block.window.width * BYTES_PER_VALUE
        assert size <= megabytes << 20 or max(block.window.shape) <= SMALLEST_PX
    assert (covered == 1).all()


def test_a_block_has_the_observations_that_reach_into_it() -> None:
    observations = [build_observation(0), build_observation(1, EAST), build_observation(2, OTHER_ZONE)]
    grid = build_target_grid(observations[:2], ["B04"])
    blocks = plan_blocks(grid, observations, 1 << 16)
    for block in blocks:
        extent = grid.window_grid(block.window).bounds
        reaching = [
            each.id
            for each in observations[:2]
            if each.scene.grid.bounds[0] < extent[2]
            and extent[0] < each.scene.grid.bounds[2]
            and each.scene.grid.bounds[1] < extent[3]
            and extent[1] < each.scene.grid.bounds[3]
        ]
        assert [each.id for each in block.observations] == reaching
    assert {len(block.observations) for block in blocks} == {1, 2}
