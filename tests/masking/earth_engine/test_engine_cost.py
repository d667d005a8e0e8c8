"""Windows, and what a scene costs, without Earth Engine."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.earth_engine.download import ComputePixels
from pc_cloudmask.masking.earth_engine.session import TransferStatistics
from pc_cloudmask.masking.earth_engine.windows import (
    BYTES_PER_PIXEL,
    LONGEST_SIDE,
    PAIRING_CHUNK,
    PAIRING_SPAN,
    ROW_STEP,
    WINDOW_BYTES,
    CostEstimate,
    cut_for_pairing,
    estimate_pairing,
    plan_windows,
    split_window,
)
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.masking.s2cloudless import EarthEngineInputs
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.settings import read_settings
from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene, build_scene
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.sessions import run_session

TILE = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (5490, 5490))


@given(st.integers(1, 6000), st.integers(1, 40_000), st.sampled_from([2_000_000, WINDOW_BYTES]))
def test_windows_cover_a_grid_exactly_and_fit_a_request(height: int, width: int, window_bytes: int) -> None:
    windows = plan_windows(replace(TILE, shape=(height, width)), window_bytes)
    assert sum(window.height * window.width for window in windows) == height * width
    corners = {(window.row, window.col) for window in windows}
    assert len(corners) == len(windows)
    for window in windows:
        assert window.height * window.width * BYTES_PER_PIXEL <= window_bytes
        assert max(window.shape) <= LONGEST_SIDE
        assert window.row % ROW_STEP == 0
        assert window.row + window.height <= height
        assert window.col + window.width <= width


def test_a_tile_goes_in_full_rows() -> None:
    assert [window.shape for window in plan_windows(TILE)] == [(2048, 5490), (2048, 5490), (1394, 5490)]


@given(st.integers(1, 700), st.integers(1, 700))
def test_splitting_to_the_floor_covers_every_pixel_once(height: int, width: int) -> None:
    seen = np.zeros((height, width), int)

    def fill(window: Window) -> None:
        parts = split_window(window, 128)
        for part in parts:
            fill(part)
        if not parts:
            assert max(window.shape) <= 128
            seen[window.slices] += 1

    fill(Window(0, 0, height, width))
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("method", "compute", "expected"),
    [
        ("s2cloudless", "local", CostEstimate(4, 5490**2 + 1098**2)),
        ("s2cloudless", "server", CostEstimate(3, 5490**2)),
        ("cloud-score-plus", "local", CostEstimate(3, 5490**2)),
        ("cloud-score-plus", "server", CostEstimate(3, 5490**2)),
        ("csmask", "local", CostEstimate(asset_bytes=6 * 2 * 5490**2)),
        ("omnicloudmask", "local", CostEstimate(asset_bytes=3 * 2 * 5490**2)),
    ],
)
def test_the_cost_of_a_full_tile(method: str, compute: str, expected: CostEstimate) -> None:
    scene = replace(build_scene(build_ragged_scene(SUNS[0], shape_20m=(50, 60))), grid=TILE)
    assert METHODS[method].estimate(scene, read_settings(method=method, compute=compute)) == expected


def test_four_bands_are_fewer_bytes_than_six() -> None:
    scene = replace(build_scene(build_ragged_scene(SUNS[0], shape_20m=(50, 60))), grid=TILE)
    settings = read_settings(method="csmask", csmask_model="4-bands-30m")
    assert METHODS["csmask"].estimate(scene, settings).asset_bytes == 4 * 2 * 5490**2


@pytest.mark.parametrize("compute", ["local", "server"])
def test_a_run_costs_what_was_estimated(compute: str, earth_engine: LocalEarthEngine) -> None:
    product = build_ragged_scene(SUNS[0], shape_20m=(150, 170))
    scene = build_scene(product)
    earth_engine.world.add_sentinel2(product)
    with run_session(earth_engine) as session:
        downloader = ComputePixels(session)
        if compute == "local":
            inputs = EarthEngineInputs(downloader, MaskParameters())
            inputs.download_inputs(scene, inputs.find_images([scene])[scene.id])()
        else:
            engine = EarthEngineInputs(downloader, MaskParameters())
            engine.download_mask(scene, engine.find_images([scene])[scene.id])()
        spent = session.statistics
    expected = METHODS["s2cloudless"].estimate(scene, read_settings(compute=compute)) + estimate_pairing(
        [scene.datetime]
    )
    assert CostEstimate(spent.requests, spent.bytes) == expected
    assert spent.seconds.keys() == {"start", "pairing", "download"}


def test_costs_add_up_and_two_hundred_scenes_of_a_day_pair_in_two_requests() -> None:
    day = datetime(2018, 12, 14, tzinfo=UTC)
    assert estimate_pairing([day] * 200) + CostEstimate(3, 10, 7) == CostEstimate(5, 10, 7)
    assert estimate_pairing([]) == CostEstimate()


@pytest.mark.slow
@given(st.lists(st.integers(0, 2000), max_size=400))
def test_a_listing_asks_about_few_scenes_of_a_short_time(days: list[int]) -> None:
    taken = [datetime(2018, 12, 14, tzinfo=UTC) + timedelta(days=day) for day in sorted(days)]
    runs = [taken[cut] for cut in cut_for_pairing(taken)]
    assert [moment for run in runs for moment in run] == taken
    assert all(len(run) <= PAIRING_CHUNK and run[-1] - run[0] <= PAIRING_SPAN for run in runs)
    assert estimate_pairing(reversed(taken)).requests == len(runs)


def test_a_cost_is_told_without_the_client() -> None:
    code = "import sys, pc_cloudmask.masking.earth_engine.windows; sys.exit('ee' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_statistics_count_from_many_threads_and_read_as_json() -> None:
    statistics = TransferStatistics()
    with statistics.phase("download"), ThreadPoolExecutor(4) as pool:
        for _ in range(100):
            pool.submit(statistics.count, requests=1, size=7)
            pool.submit(statistics.count, retries=2, splits=3)
    counted = statistics.as_json()
    assert counted.pop("seconds").keys() == {"download"}
    assert counted == {"requests": 100, "retries": 200, "splits": 300, "bytes": 700}
