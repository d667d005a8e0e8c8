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
from tests.doubles.earth_engine.sentinel2 import L2A, Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.items import build_item

pytestmark = pytest.mark.usefixtures("fixed_clock")


@pytest.fixture
def product() -> Sentinel2:
    """A small scene, not square."""
    return build_ragged_scene(SUNS[1], shape_20m=(187, 221))


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


WAYS = [("s2cloudless", "local"), ("s2cloudless", "server"), ("cloud-score-plus", "local")]


def mask_clouds(product: Sentinel2, left: float) -> Sentinel2:
    """The product with cloud layers that end where a share of ``left`` is reached, from the top."""
    valid = np.zeros(product.shape_10m, bool)
    valid[: round(left * len(valid))] = True
    return replace(product, cloud_valid=valid)


def choose(request: IngestRequest, way: tuple[str, str]) -> IngestRequest:
    """The request by that method and compute."""
    return request.model_copy(update={"method": way[0], "compute": way[1]})


def tell(request: IngestRequest, properties: dict[str, Any]) -> None:
    """Let the request's item say so, too."""
    path = Path(request.items or "")
    item = json.loads(path.read_text())
    item["properties"] |= properties
    path.write_text(json.dumps(item))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("left", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("told", [{}, {"s2:nodata_pixel_percentage": 12.5}])
def test_a_masked_cloud_layer_is_waited_for_and_never_published_as_no_data(
    way: tuple[str, str],
    left: float,
    told: dict[str, float],
    request_: IngestRequest,
    product: Sentinel2,
    earth_engine: LocalEarthEngine,
) -> None:
    tell(request_, told)
    request = choose(request_, way)
    earth_engine.world.add_sentinel2(mask_clouds(product, left))
    report = run(request)
    (waiting,) = report.waiting
    assert "not complete yet" in waiting.reason
    assert not report.failed
    assert not list(Path(request.store or "").rglob("*.tif"))
    assert list(Path(request.store or "").glob("_waiting/*.json"))
    earth_engine.world.add_sentinel2(product)
    assert run(request).published == (waiting.id,)
    assert not list(Path(request.store or "").glob("_waiting/*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_rim_that_the_cloud_layer_leaves_out_is_no_data(
    way: tuple[str, str], request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    request = choose(request_, way)
    earth_engine.world.add_sentinel2(mask_clouds(product, 0.96))
    assert run(request).published
    _, mask = read_published(request)
    assert not mask[round(0.97 * len(mask)) :].any()
    assert mask[: round(0.95 * len(mask)), 0].all()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "lack",
    [
        {"valid": np.zeros((374, 442), bool)},
        {"masked_bands": frozenset({"B8"})},
        {"masked_bands": frozenset({"SCL"})},
        {"masked_bands": frozenset({"B8", "SCL"})},
    ],
    ids=["all", "B8", "SCL", "both"],
)
@pytest.mark.parametrize("told", [{}, {"s2:nodata_pixel_percentage": 0}, {"s2:nodata_pixel_percentage": "0"}])
def test_an_image_without_any_pixel_is_no_proof_that_there_is_none(
    way: tuple[str, str],
    lack: dict[str, Any],
    told: dict[str, Any],
    request_: IngestRequest,
    product: Sentinel2,
    earth_engine: LocalEarthEngine,
) -> None:
    tell(request_, told)
    earth_engine.world.add_sentinel2(replace(product, **lack))
    report = run(choose(request_, way))
    (waiting,) = report.waiting
    assert "not complete yet" in waiting.reason


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_an_item_that_says_that_it_is_empty_is_published_so(
    way: tuple[str, str], request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    tell(request_, {"s2:nodata_pixel_percentage": 99.9971})
    earth_engine.world.add_sentinel2(replace(product, valid=np.zeros((374, 442), bool)))
    request = choose(request_, way)
    assert run(request).published
    assert not read_published(request)[1].any()
    assert run(request).skipped


@pytest.mark.slow
def test_an_empty_mask_that_an_earlier_version_published_is_made_again(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.world.add_sentinel2(product)
    (published,) = run(request_).published
    assert run(request_).skipped == (published,)
    (path,) = Path(request_.store or "").rglob("S2*_*.json")
    item = json.loads(path.read_text())
    item["properties"]["cloudmask:nodata_percentage"] = 100.0
    path.write_text(json.dumps(item))
    assert run(request_).published == (published,)
    assert run(request_).skipped == (published,)


@pytest.mark.slow
def test_both_computes_publish_one_mask(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine, tmp_path: Path
) -> None:
    earth_engine.world.add_sentinel2(product)
    server = request_.model_copy(update={"compute": "server", "store": str(tmp_path / "server")})
    assert run(request_).published
    assert run(server).published
    np.testing.assert_array_equal(read_published(request_)[1], read_published(server)[1])


@pytest.mark.slow
def test_memory_errors_end_in_a_whole_mask(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine, tmp_path: Path
) -> None:
    earth_engine.world.add_sentinel2(product)
    run(request_)
    earth_engine.faults.add(faults.memory_limit(), path="computePixels", above_pixels=16_000)
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


@pytest.mark.slow
def test_cloud_score_plus_does_with_level_1_once_surface_reflectance_is_overdue(
    request_: IngestRequest,
    product: Sentinel2,
    earth_engine: LocalEarthEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earth_engine.world.add_sentinel2(product, without=[L2A])
    request = request_.model_copy(update={"method": "cloud-score-plus"})
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1546300800")  # 2019-01-01, 18 days after the scene
    (waiting,) = run(request).waiting
    assert L2A in waiting.reason
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1556668800")
    assert run(request_).waiting, "s2cloudless needs surface reflectance"
    assert run(request).published == (waiting.id,)
    item, mask = read_published(request)
    assert item["properties"]["cloudmask:parameters"]["nir_level"] == "L1C"
    assert set(np.unique(mask)) == {0, 1, 2, 3}
    assert run(request).skipped == (waiting.id,)


def test_cloud_score_plus_waits_for_a_masked_score_by_level_1_too(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.world.add_sentinel2(mask_clouds(product, 0.5), without=[L2A])
    (waiting,) = run(request_.model_copy(update={"method": "cloud-score-plus"})).waiting
    assert "not complete yet" in waiting.reason


@pytest.mark.slow
def test_the_other_band_of_cloud_score_plus_is_a_setting(
    request_: IngestRequest,
    product: Sentinel2,
    earth_engine: LocalEarthEngine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    height, width = product.shape_10m
    score = np.where(np.arange(width) < width // 2, 0.1, 0.9).astype(np.float32)
    earth_engine.world.add_sentinel2(
        replace(product, valid=None, clear_score_cs=np.broadcast_to(score, (height, width)).copy())
    )
    request = request_.model_copy(update={"method": "cloud-score-plus"})
    assert run(request).published
    item, plain = read_published(request)
    assert "clear_score_band" not in item["properties"]["cloudmask:parameters"]
    monkeypatch.setenv("CLOUDMASK_CLEAR_SCORE_BAND", "cs")
    assert run(request).published, "another band is another mask"
    other = request.model_copy(update={"store": str(tmp_path / "cs")})
    assert run(other).published
    item, mask = read_published(other)
    assert item["properties"]["cloudmask:parameters"]["clear_score_band"] == "cs"
    assert (mask[:, : width // 4 - 1] >= 2).all()
    assert (mask[:, width // 4 + 6 :] == 1).all()
    assert (mask != plain).any()


def test_cloud_score_plus_publishes_its_own_parameters(
    request_: IngestRequest, product: Sentinel2, earth_engine: LocalEarthEngine
) -> None:
    earth_engine.world.add_sentinel2(replace(product))
    assert run(request_.model_copy(update={"method": "cloud-score-plus"})).published
    item, mask = read_published(request_)
    assert "clear_score" in item["properties"]["cloudmask:parameters"]
    assert {1, 2} <= set(np.unique(mask))


@pytest.mark.slow
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


@pytest.mark.slow
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
