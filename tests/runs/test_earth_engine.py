"""The main job with Earth Engine behind it: an unmodified client on the local server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from pc_cloudmask.errors import EngineDenied, EngineRefused
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import ThreadRunner
from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene, build_scene
from tests.doubles.earth_engine.sentinel2 import Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.items import build_item

pytestmark = pytest.mark.usefixtures("fixed_clock")


@pytest.fixture
def product() -> Sentinel2:
    """A small scene, not square."""
    return build_ragged_scene(SUNS[1], shape_20m=(253, 307))


@pytest.fixture
def request_(
    product: Sentinel2, earth_engine: LocalEarthEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> IngestRequest:
    """Asks for the product's item, which alone does not tell where it is cloudy."""
    monkeypatch.setenv("CLOUDMASK_EARTHENGINE_URL", earth_engine.url)
    monkeypatch.setenv("CLOUDMASK_EARTHENGINE_PROJECT", "p")
    monkeypatch.setenv("CLOUDMASK_EARTHENGINE_CREDENTIALS", "anonymous")
    items = tmp_path / "item.json"
    items.write_text(json.dumps(build_item(build_scene(product))))
    return IngestRequest(items=str(items), store=str(tmp_path / "out"))


def run(request: IngestRequest) -> Report:
    """``request`` directly; the client's connections are closed behind it."""
    context = RunContext(request.read_settings(), request.items)
    try:
        return ingest(context, request, ThreadRunner(1, retry_delay_s=0))
    finally:
        context.session.close()


def describe_work(report: Report, product: Sentinel2) -> str:
    """How long the scene took in all, and how much of that was spent waiting for Earth Engine.

    Not in CPU time: the server's threads are in this process. ``make bench`` measures that.
    """
    height, width = (side // 2 for side in product.shape_10m)
    download_s = sum(report.transfer["seconds"].values())
    return (
        f"one scene of {height} x {width} px: {report.seconds:.2f} s, of which {download_s:.2f} s were for "
        f"{report.transfer['requests']} requests and {report.transfer['bytes'] // 1000} kB of Earth Engine"
    )


def read_published(request: IngestRequest) -> tuple[dict[str, Any], np.ndarray]:
    """The one published item and its mask."""
    assert request.store is not None
    (path,) = Path(request.store).rglob("S2*_*.json")
    item = json.loads(path.read_text())
    with rasterio.open(path.parent / item["assets"]["cloudmask"]["href"]) as dataset:
        return item, dataset.read(1)


def test_a_scene_waits_for_its_image_and_is_published_once_it_is_there(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine, figures: list[str]
) -> None:
    report = run(request_)
    (waiting,) = report.waiting
    assert "no image" in waiting.reason
    assert not list(Path(request_.store or "").rglob("*.tif"))
    assert list(Path(request_.store or "").glob("_waiting/*.json"))

    index = earth_engine.world.add_sentinel2(product)
    report = run(request_)
    figures.append(describe_work(report, product))
    assert report.published == (waiting.id,)
    assert report.transfer["requests"] >= 3
    assert not list(Path(request_.store or "").glob("_waiting/*.json"))
    item, mask = read_published(request_)
    assert item["properties"]["cloudmask:granule"] == index
    assert set(np.unique(mask)) == {0, 1, 2, 3}


def test_both_computes_publish_one_mask(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine, tmp_path: Path
) -> None:
    earth_engine.world.add_sentinel2(product)
    server = request_.model_copy(update={"compute": "server", "store": str(tmp_path / "server")})
    assert run(request_).published
    assert run(server).published
    np.testing.assert_array_equal(read_published(request_)[1], read_published(server)[1])


def test_memory_errors_end_in_a_whole_mask(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine, tmp_path: Path
) -> None:
    earth_engine.world.add_sentinel2(product)
    run(request_)
    earth_engine.faults.add(faults.memory_limit(), path="computePixels", above_pixels=30_000)
    split = request_.model_copy(update={"store": str(tmp_path / "split")})
    report = run(split)
    assert report.transfer["splits"] > 0
    np.testing.assert_array_equal(read_published(split)[1], read_published(request_)[1])


def test_a_project_that_is_not_registered_ends_the_run_with_how_to_mend_it(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.world.add_sentinel2(product)
    earth_engine.faults.add(faults.not_registered())
    with pytest.raises(EngineRefused, match="regist"):
        run(request_)
    assert not list(Path(request_.store or "").rglob("*.tif"))


def test_a_limit_that_no_split_cures_fails_the_scene_and_leaves_no_part_of_it(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.world.add_sentinel2(product)
    earth_engine.faults.add(faults.memory_limit(), path="computePixels")
    (failure,) = run(request_).failed
    assert "memory" in failure.reason
    assert not list(Path(request_.store or "").rglob("*.tif"))


def test_kept_inputs_are_published_beside_the_mask(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.world.add_sentinel2(product)
    run(request_.model_copy(update={"keep_inputs": True}))
    item, _ = read_published(request_)
    assert next(iter(item["assets"])) == "cloudmask"
    probability = item["assets"]["cloud-probability"]
    (path,) = Path(request_.store or "").rglob(probability["href"].removeprefix("./"))
    with rasterio.open(path) as dataset:
        values = dataset.read(1)
    assert dataset.nodata == probability["nodata"] == 255
    assert values[values != 255].max() <= 100
    np.testing.assert_array_equal(values == 255, read_published(request_)[1] == 0)


def test_cloud_score_plus_publishes_its_own_parameters(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.world.add_sentinel2(replace(product))
    assert run(request_.model_copy(update={"method": "cloud-score-plus"})).published
    item, mask = read_published(request_)
    assert "clear_score" in item["properties"]["cloudmask:parameters"]
    assert {1, 2} <= set(np.unique(mask))


@pytest.mark.parametrize(
    "refusal",
    [
        faults.not_registered(),
        faults.missing_role(),
        faults.api_not_enabled(),
        faults.ErrorReply(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
        faults.ErrorReply(403, "PERMISSION_DENIED", "The caller does not have permission"),
        faults.ErrorReply(403, "PERMISSION_DENIED", "something that nobody has seen before"),
    ],
)
def test_a_refusal_at_the_pixels_ends_the_run_and_is_noted_of_no_scene(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine, refusal: faults.ErrorReply
) -> None:
    earth_engine.world.add_sentinel2(product)
    earth_engine.faults.add(refusal, path="computePixels")
    with pytest.raises(EngineDenied) as error:
        run(request_)
    assert error.value.ends_run
    assert not list(Path(request_.store or "").rglob("_failed/*"))
    earth_engine.faults.clear()
    assert run(request_).published


@pytest.mark.parametrize(
    "refusal",
    [
        faults.ErrorReply(403, "RESOURCE_EXHAUSTED", "Rate Limit Exceeded"),
        faults.ErrorReply(
            403,
            "PERMISSION_DENIED",
            "The request cannot be answered now.",
            ({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED"},),
        ),
        faults.ErrorReply(
            403,
            "PERMISSION_DENIED",
            "Slower.",
            ({"domain": "usageLimits", "reason": "userRateLimitExceeded"},),
        ),
    ],
)
def test_a_403_that_says_too_fast_is_tried_again_at_once(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine, refusal: faults.ErrorReply
) -> None:
    earth_engine.world.add_sentinel2(product)
    earth_engine.faults.add(refusal, path="computePixels", first=1)
    report = run(request_)
    assert report.published
    assert report.transfer["retries"] == 1
