"""Every fault ends in the right error, after the right number of attempts, or in a whole raster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import ee
import numpy as np
import pytest

from pc_cloudmask.errors import CloudmaskError, EngineRefused, EngineUnavailable
from pc_cloudmask.masking.earth_engine.download import Bytes, ComputePixels
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.masking.earth_engine.windows import BAND, Raster
from pc_cloudmask.scene.grid import Grid
from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.faults import Fault
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.sessions import run_session

GRID = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (300, 400))
PIXELS = "image:computePixels"


@pytest.fixture
def session(earth_engine: LocalEarthEngine) -> Iterator[EarthEngineSession]:
    # Windows of 300 x 256 and 300 x 144 pixels.
    with run_session(earth_engine, window_bytes=256 * 512 * 2, floor_pixels=64) as session:
        yield session


def build_raster(session: EarthEngineSession, grid: Grid = GRID) -> Raster:
    """A raster whose pixels say where they are."""
    session.start()
    place = ee.Image.pixelCoordinates(ee.Projection(GRID.crs, list(GRID.transform))).floor()
    image = place.select("x").add(place.select("y").multiply(7)).mod(251).toByte().rename(BAND)
    return Raster("test pattern", image, grid)


def read(session: EarthEngineSession) -> Bytes:
    (pixels,) = ComputePixels(session).read_rasters("scene-1", [build_raster(session)])
    return pixels


EXPECTED = (np.arange(400)[None, :] + 7 * np.arange(300)[:, None]) % 251


def test_without_faults_a_window_is_one_request(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    np.testing.assert_array_equal(read(session), EXPECTED)
    assert len(earth_engine.requests.to(PIXELS)) == 2
    counted = session.statistics
    assert (counted.requests, counted.retries, counted.splits, counted.bytes) == (2, 0, 0, 300 * 400)
    assert counted.seconds["download"] > 0


PASSING: dict[str, Fault] = {
    "429": faults.too_many_requests(),
    "500": faults.internal_error(),
    "503": faults.unavailable(),
    "reset": faults.Reset(),
    "truncation": faults.Truncate(0.6),
    "html": faults.Html(),
    "json that is html": faults.Html("<HTML>moved</HTML>"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_is_tried_again(
    fault: Fault, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    earth_engine.faults.add(fault, path=PIXELS, first=3)
    np.testing.assert_array_equal(read(session), EXPECTED)
    assert len(earth_engine.requests.to(PIXELS)) == 2 + 3
    counted = session.statistics
    assert (counted.requests, counted.retries) == (5, 3)


@pytest.mark.slow
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_that_stays_is_unavailable_after_all_attempts(
    fault: Fault, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.faults.add(fault, path=PIXELS)
    with run_session(earth_engine, attempts=3) as session, pytest.raises(EngineUnavailable) as failed:
        read(session)
    assert len(earth_engine.requests.to(PIXELS)) == 3
    text = str(failed.value)
    assert text.startswith("scene-1: test pattern of 300 x 400 pixels at row 0, column 0: ")
    assert text.endswith("gave up after 3 attempts")
    assert "\n" not in text


def test_a_hang_ends_with_the_request_time_out(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.Hang(), path=PIXELS)
    with (
        run_session(earth_engine, attempts=2, request_timeout_s=0.2) as session,
        pytest.raises(EngineUnavailable, match=r"no answer within 0.2 s; gave up after 2 attempts"),
    ):
        read(session)
    assert len(earth_engine.requests.to(PIXELS)) == 2


def test_no_attempt_begins_beyond_the_deadline(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.too_many_requests(retry_after_s=3600), path=PIXELS)
    with (
        run_session(earth_engine, deadline_s=30) as session,
        pytest.raises(EngineUnavailable, match=r"HTTP 429: .* gave up after 1 attempts"),
    ):
        read(session)
    assert len(earth_engine.requests.to(PIXELS)) == 1


def test_no_window_is_asked_for_beyond_the_deadline(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.Delay(0.1), path=PIXELS)
    with (
        run_session(earth_engine, in_flight=2, deadline_s=0.3, window_bytes=2 * 512 * 8) as session,
        pytest.raises(EngineUnavailable, match=r"scene-1: .*: not begun within 0.3 s"),
    ):
        read(session)
    # Of fifty.
    assert len(earth_engine.requests.to(PIXELS)) < 20


def test_a_wait_beyond_the_deadline_holds_up_no_other_request(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.too_many_requests(retry_after_s=3600), path=PIXELS, first=1)
    with run_session(earth_engine, deadline_s=300) as session:
        with pytest.raises(EngineUnavailable, match="gave up after 1 attempts"):
            read(session)
        later: list[Bytes] = []
        thread = threading.Thread(target=lambda: later.append(read(session)), daemon=True)
        thread.start()
        thread.join(300)
        assert len(later) == 1


NEVER: dict[str, tuple[Fault, type[CloudmaskError], str]] = {
    "unregistered": (
        faults.not_registered(),
        EngineRefused,
        "project p is not registered for Earth Engine: register it at https://",
    ),
    "role": (
        faults.missing_role(),
        EngineRefused,
        "may not use project p: grant them the role roles/serviceusage.serviceUsageConsumer",
    ),
    "earth engine role": (
        faults.ErrorReply(
            403,
            "PERMISSION_DENIED",
            "Permission 'earthengine.computations.create' denied on resource 'projects/p'.",
        ),
        EngineRefused,
        "may not compute in project p: grant them the role roles/earthengine.viewer",
    ),
    "api": (
        faults.api_not_enabled(),
        EngineRefused,
        "the Earth Engine API is not enabled in project p: enable it at https://",
    ),
    "no project": (
        faults.ErrorReply(404, "NOT_FOUND", "Project 'projects/p' not found or deleted."),
        EngineRefused,
        "no project p is known to these credentials: CLOUDMASK_EARTHENGINE_PROJECT wants the id",
    ),
    "another's project": (
        faults.ErrorReply(
            403,
            "PERMISSION_DENIED",
            "Permission denied on resource project p.",
            ({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "CONSUMER_INVALID"},),
        ),
        EngineRefused,
        "no project p is known to these credentials: CLOUDMASK_EARTHENGINE_PROJECT wants the id",
    ),
    "suspended": (
        faults.ErrorReply(
            403,
            "PERMISSION_DENIED",
            "Permission denied: Consumer 'projects/p' has been suspended.",
            ({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "CONSUMER_SUSPENDED"},),
        ),
        EngineRefused,
        "Google has suspended project p: see https://",
    ),
    "quota": (faults.quota_exceeded(), EngineUnavailable, "the compute quota of project p is used up"),
    "credentials": (
        faults.ErrorReply(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
        EngineRefused,
        "sign in again with 'earthengine authenticate'",
    ),
    "wrong request": (
        faults.ErrorReply(400, "INVALID_ARGUMENT", "Image.add: bands do not match."),
        EngineRefused,
        "HTTP 400: Image.add: bands do not match",
    ),
    "gone": (
        faults.ErrorReply(400, "INVALID_ARGUMENT", "Image.load: Image asset 'x' not found."),
        EngineUnavailable,
        "Image asset 'x' not found",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "error", "text"), NEVER.values(), ids=NEVER)
def test_what_no_second_attempt_cures_is_said_at_once(
    fault: Fault,
    error: type[CloudmaskError],
    text: str,
    earth_engine: LocalEarthEngine,
) -> None:
    earth_engine.faults.add(fault, path=PIXELS)
    with run_session(earth_engine) as session, pytest.raises(error) as failed:
        read(session)
    assert text in str(failed.value)
    assert "scene-1" in str(failed.value)
    assert "\n" not in str(failed.value)
    # What may be the form's fault is asked for in the other form, once.
    forms = [request.body["fileFormat"] for request in earth_engine.requests.to(PIXELS)]
    assert len(forms) == len(set(forms))


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [faults.memory_limit(), faults.computation_timed_out()], ids=["memory", "time"]
)
def test_what_is_too_much_ends_whole_by_splitting(
    fault: Fault, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    rule = earth_engine.faults.add(fault, path=PIXELS, above_pixels=80 * 80)
    np.testing.assert_array_equal(read(session), EXPECTED)
    counted = session.statistics
    # 300 x 256 -> 4 of 150 x 128 -> 16 of 75 x 64; 300 x 144 -> 4 of 150 x 72 -> 16 of 75 x 36.
    assert rule.hits == counted.splits == 2 * (1 + 4)
    assert counted.requests == 2 * (1 + 4 + 16)
    assert (counted.retries, counted.bytes) == (0, 300 * 400)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(faults.memory_limit(), EngineRefused), (faults.computation_timed_out(), EngineUnavailable)],
    ids=["memory", "time"],
)
def test_splitting_ends_at_the_floor(
    fault: Fault, error: type[CloudmaskError], earth_engine: LocalEarthEngine
) -> None:
    earth_engine.faults.add(fault, path=PIXELS)
    with run_session(earth_engine, in_flight=2, floor_pixels=100) as session, pytest.raises(error) as failed:
        read(session)
    assert "75 x 100 pixels" in str(failed.value)
    assert "smaller window" in str(failed.value)
    assert len(earth_engine.requests.to(PIXELS)) == 3


@pytest.mark.slow
def test_a_window_beyond_the_byte_limit_is_split(earth_engine: LocalEarthEngine) -> None:
    wide = replace(GRID, shape=(512, 60_000))
    with run_session(earth_engine, window_bytes=2 * 512 * 60_000) as session:
        raster = build_raster(session, wide)
        (pixels,) = ComputePixels(session).read_rasters("scene-1", [raster])
        assert session.statistics.splits == 0
        assert len(earth_engine.requests.to(PIXELS)) == 2
    assert pixels[511, 59_999] == (59_999 + 7 * 511) % 251
    with run_session(earth_engine, window_bytes=3 * 2 * 5000 * 5500) as session:
        raster = build_raster(session, replace(GRID, shape=(5000, 5500)))
        (pixels,) = ComputePixels(session).read_rasters("scene-1", [raster])
        assert session.statistics.splits == 1
    assert pixels[4999, 5499] == (5499 + 7 * 4999) % 251


def test_pixels_of_another_shape_are_refused(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    earth_engine.faults.add(faults.WrongShape(rows=-1), path=PIXELS)
    with pytest.raises(EngineRefused, match=r"\(299, \d+\) pixels of uint8, not \(300, \d+\)"):
        read(session)


def test_pixels_of_another_type_are_refused(session: EarthEngineSession) -> None:
    raster = build_raster(session)
    raster = replace(raster, image=raster.image.toInt16())
    with pytest.raises(EngineRefused, match="pixels of int16"):
        ComputePixels(session).read_rasters("scene-1", [raster])


def test_the_first_failure_ends_a_scene(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.missing_role(), path=PIXELS)
    with (
        run_session(earth_engine, in_flight=2, window_bytes=2 * 512 * 8) as session,
        pytest.raises(EngineRefused),
    ):
        read(session)
    # Fifty windows were planned; only those under way at the time were asked for.
    assert len(earth_engine.requests.to(PIXELS)) <= 4


@pytest.mark.slow
def test_no_more_requests_are_under_way_than_the_session_allows(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.Delay(0.01), path=PIXELS)
    with run_session(earth_engine, in_flight=4, window_bytes=2 * 512 * 16) as session:
        raster = build_raster(session)
        earth_engine.requests.clear()
        pixels = ComputePixels(session).read_rasters("scene-1", [raster, raster])
    np.testing.assert_array_equal(pixels[0], EXPECTED)
    np.testing.assert_array_equal(pixels[1], EXPECTED)
    assert 1 < earth_engine.requests.peak_in_flight <= 4


@pytest.mark.slow
def test_many_faults_at_once_still_give_the_whole_raster(earth_engine: LocalEarthEngine) -> None:
    for seed, fault in enumerate(PASSING.values()):
        earth_engine.faults.add(fault, path=PIXELS, probability=0.06, seed=seed)
    earth_engine.faults.add(faults.memory_limit(), path=PIXELS, above_pixels=5000)
    with run_session(earth_engine, attempts=12, window_bytes=2 * 512 * 32, floor_pixels=32) as session:
        np.testing.assert_array_equal(read(session), EXPECTED)
        counted = session.statistics
    assert counted.retries > 0
    assert counted.splits > 0
    assert counted.bytes == 300 * 400


def test_restricted_mode_is_said_once(
    earth_engine: LocalEarthEngine, session: EarthEngineSession, caplog: pytest.LogCaptureFixture
) -> None:
    earth_engine.faults.add(faults.Restricted(), path=PIXELS)
    with caplog.at_level(logging.WARNING, "pc_cloudmask"):
        np.testing.assert_array_equal(read(session), EXPECTED)
    assert [record.message for record in caplog.records if "restricted mode" in record.message] != []
    assert len(caplog.records) == 1
