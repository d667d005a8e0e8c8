"""Runs with several methods: an early mask by a lesser one, and its replacement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pc_cloudmask import find_items
from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.search import read_census
from pc_cloudmask.catalog.states import NotedState, StateKind, list_states
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.plan import plan_ingest, read_status
from pc_cloudmask.runs.report import Report, build_metrics
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import ThreadRunner
from pc_cloudmask.storage.stores import open_store
from tests.doubles.earth_engine.sentinel2 import CLOUD_SCORE_PLUS
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.runs.archive import DAY, NEVER, START, Archive, Product
from tests.runs.service import Service, run_service
from tests.runs.test_watch import build_plain_archive, edit, walk
from tests.sample_archive import copy_archive

pytestmark = pytest.mark.slow

LADDER = ("cloud-score-plus", "s2cloudless")
#: A few hours after the scene was taken, and half a day after its patience is over.
TAKEN = START + timedelta(hours=13, minutes=32)
EARLY, PATIENT = TAKEN + DAY, TAKEN + 3.5 * DAY


@pytest.fixture
def service(earth_engine: LocalEarthEngine, tmp_path: Path) -> Iterator[Service]:
    """One scene that Earth Engine has at once, but for its Cloud Score+; a ladder of the two methods."""
    (first, *_) = build_plain_archive(days=4).products
    archive = Archive((replace(first, score=NEVER),))
    with run_service(archive, earth_engine, tmp_path / "out", methods=LADDER) as service:
        yield service


def read_published(service: Service) -> dict[str, Any]:
    (item,) = walk(service).items.values()
    properties: dict[str, Any] = item["properties"]
    return {name.removeprefix("cloudmask:"): value for name, value in properties.items()}


def list_noted(service: Service) -> list[NotedState]:
    return list(list_states(open_store(str(service.store))))


def test_an_early_mask_is_provisional_and_replaced_once_the_better_input_is_there(service: Service) -> None:
    (product,) = service.archive.products
    report = service.run(EARLY)
    (waiting,) = report.waiting
    assert "cloud-score-plus: " in waiting.reason
    assert "from 2024-01-04 13:32 UTC on s2cloudless may make the mask" in waiting.reason

    report = service.run(PATIENT)
    assert report.published == report.provisional == (product.id,)
    early = read_published(service)
    assert (early["method"], early["provisional"]) == ("s2cloudless", True)
    (item,) = find_items(bbox=(-180, -90, 180, 90), store=str(service.store))
    assert item.properties["cloudmask:provisional"] is True
    (state,) = list_noted(service)
    assert (state.kind, state.item_id) == (StateKind.PROVISIONAL, product.id)
    assert "no image" in state.reason
    assert read_census(open_store(str(service.store))).provisional == 1

    edit(service, 0, score=PATIENT)
    report = service.run(PATIENT + 2 * DAY)
    assert (report.published, report.provisional) == ((product.id,), ())
    better = read_published(service)
    assert better["method"] == "cloud-score-plus"
    assert "provisional" not in better
    assert better["created"] == early["created"]
    assert list_noted(service) == []
    assert service.run(PATIENT + 3 * DAY).skipped == (product.id,)
    verdict = check_catalog(
        open_store(str(service.store)), CatalogContext(None), repair=False, now=PATIENT + 3 * DAY
    )
    assert verdict.is_whole, verdict.findings


def test_without_patience_the_next_method_is_used_at_once(service: Service) -> None:
    service.settings["patience"] = 0
    assert service.run(EARLY).provisional


def test_with_every_input_the_first_method_makes_the_mask(service: Service) -> None:
    edit(service, 0, score=START)
    report = service.run(EARLY)
    assert report.published
    assert not report.provisional
    assert read_published(service)["method"] == "cloud-score-plus"


def test_a_scene_for_which_no_method_has_its_input_waits(service: Service) -> None:
    edit(service, 0, image=NEVER)
    for day in range(1, 30, 5):
        report = service.run(TAKEN + day * DAY)
        assert not report.published
        assert len(report.waiting) == 1
    (state,) = list_noted(service)
    assert state.kind is StateKind.WAITING
    assert "cloud-score-plus: " in state.reason
    assert "s2cloudless: " in state.reason


def test_a_provisional_scene_is_tried_less_and_less_often_and_skipped_meanwhile(service: Service) -> None:
    tries = set()
    for hour in range(0, 24 * 5, 4):
        report = service.run(PATIENT + timedelta(hours=hour))
        assert bool(report.skipped) == (hour > 0)
        assert not report.waiting
        (state,) = list_noted(service)
        tries.add(state.last_try)
    assert 4 < len(tries) < 12
    assert state.attempts == len(tries)
    # Long out of the look-back windows, it is asked for by name.
    edit(service, 0, score=START)
    assert service.run(PATIENT + 100 * DAY).published


def take_score_away(service: Service, product: Product) -> None:
    """Let Earth Engine lack the scene's Cloud Score+ again."""
    service.engine.world.remove_sentinel2(product.image_of.index)
    edit(service, 0, score=NEVER)


def test_a_worse_mask_never_takes_the_place_of_a_better_one(service: Service) -> None:
    """Not though the item changed, and its better input is gone for good."""
    product = edit(service, 0, score=START, changed=PATIENT + DAY)
    assert service.run(PATIENT).published
    take_score_away(service, product)
    for day in range(1, 30, 7):
        report = service.run(PATIENT + day * DAY)
        assert len(report.waiting) == 1
        assert read_published(service)["method"] == "cloud-score-plus"
    edit(service, 0, score=START)
    assert service.run(PATIENT + 60 * DAY).published
    published = read_published(service)
    assert (published["method"], published["s2:mean_solar_zenith"]) == ("cloud-score-plus", 41.5)


def test_a_changed_item_is_masked_again_by_the_lesser_method_that_made_its_mask(service: Service) -> None:
    edit(service, 0, changed=PATIENT + DAY)
    assert service.run(PATIENT).provisional
    assert service.run(PATIENT + 2 * DAY).provisional
    published = read_published(service)
    assert (published["method"], published["s2:mean_solar_zenith"]) == ("s2cloudless", 41.5)


def test_a_better_method_whose_layer_is_masked_is_late(service: Service) -> None:
    """Its image is there: that it lacks data is met when the mask is made."""
    (product,) = service.archive.products
    nothing = np.zeros(product.image_of.shape_10m, bool)
    world = service.engine.world
    others = {"COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S2_HARMONIZED", "COPERNICUS/S2_CLOUD_PROBABILITY"}
    world.add_sentinel2(replace(product.image_of, cloud_valid=nothing), without=others)
    assert "not complete yet" in service.run(EARLY).waiting[0].reason
    report = service.run(PATIENT)
    assert report.provisional
    (state,) = list_noted(service)
    assert state.reason.startswith("cloud-score-plus: its inputs are not complete yet")
    world.add_sentinel2(product.image_of)
    service.run(PATIENT + DAY)
    assert "provisional" not in read_published(service)


def test_a_ladder_of_one_method_less_makes_its_provisional_masks_final(service: Service) -> None:
    assert service.run(PATIENT).provisional
    service.settings["methods"] = ("s2cloudless",)
    report = service.run(PATIENT + DAY)
    assert report.published
    assert not report.provisional
    assert "provisional" not in read_published(service)
    assert list_noted(service) == []
    assert service.run(PATIENT + 2 * DAY).skipped


def test_a_better_method_that_is_new_replaces_what_is_there(service: Service) -> None:
    edit(service, 0, score=START)
    service.settings["methods"] = ("s2cloudless",)
    assert service.run(EARLY).published
    service.settings["methods"] = LADDER
    assert service.run(EARLY + DAY).published
    assert read_published(service)["method"] == "cloud-score-plus"


def test_a_withdrawn_scene_is_not_noted_any_more(service: Service) -> None:
    products = tuple(replace(each, score=NEVER) for each in build_plain_archive(days=8).products)
    service.archive = Archive(products)
    assert len(service.run(PATIENT + 20 * DAY).provisional) == len(products) == 4
    gone = edit(service, 0, withdrawn=PATIENT + 21 * DAY)
    withdrawn = [service.run(PATIENT + day * DAY).withdrawn for day in (22, 23, 24)]
    assert withdrawn[-1] == (gone.id,)
    assert gone.id not in {state.item_id for state in list_noted(service)}
    assert len(list_noted(service)) == 3


def test_a_provisional_scene_that_the_source_does_not_list_stays_published(service: Service) -> None:
    assert service.run(PATIENT).provisional
    edit(service, 0, listed=NEVER)
    for day in range(1, 4):
        report = service.run(PATIENT + day * DAY, look_back=("hot",))
        assert not report.waiting
    (state,) = list_noted(service)
    assert (state.kind, state.reason) == (StateKind.PROVISIONAL, "the source does not list it now")


def test_the_budget_covers_upgrades(service: Service) -> None:
    products = build_plain_archive(days=12).products
    service.archive = Archive(tuple(replace(each, score=NEVER) for each in products))
    late = PATIENT + 20 * DAY
    assert len(service.run(late).provisional) == len(products) == 6
    service.archive = Archive(tuple(replace(each, score=START) for each in products))
    service.settings["request_budget"] = 4  # a request for each scene's pixels, one or two to pair them
    counts = []
    for day in range(1, 5):
        report = service.run(late + day * DAY)
        counts.append((len(report.published), bool(report.deferred)))
        assert not report.provisional
    assert sum(published for published, _ in counts) == len(products)
    assert counts[0][1]
    assert all(published <= 3 for published, _ in counts)


def test_a_lower_method_is_asked_only_for_what_the_ones_above_lack(service: Service) -> None:
    """One request to pair all scenes for each method: the lower one's names one scene."""
    products = build_plain_archive(days=12).products
    service.archive = Archive((replace(products[0], score=NEVER), *products[1:]))
    report = service.run(PATIENT + 20 * DAY)
    assert len(report.published) == len(products)
    assert len(report.provisional) == 1
    # For pixels: one each by the better method, two by the lesser; then the pairing of each.
    assert report.transfer["requests"] <= (len(products) - 1) + 2 + 4


def build_ingest(service: Service, now: datetime, **settings: Any) -> tuple[RunContext, IngestRequest]:
    """What ``ingest`` is given for the service's scenes."""
    request = IngestRequest(tiles=("22KFV", "32TNS"), now=now)
    given = {"methods": LADDER, "stac_api_url": service.server.url, "store": str(service.store), **settings}
    context = RunContext(request.read_settings().model_copy(update=given), now=now)
    context.session = service.session
    return context, request


def test_what_is_provisional_is_counted_planned_and_replaced_by_ingest(service: Service) -> None:
    assert service.run(PATIENT).provisional
    edit(service, 0, score=START)
    service.run(PATIENT, look_back=())  # nothing but what Earth Engine has by now
    context, request = build_ingest(service, PATIENT + timedelta(minutes=1))
    plan = plan_ingest(context, request)
    (planned,) = plan.would_publish
    assert plan.as_json()["provisional"] == (planned.id,)
    assert planned.requests == 1  # by the better method
    status = read_status(context, request).as_json()
    assert (status["published"], status["provisional"]) == (1, 1)
    assert [state["state"] for state in status["states"]] == ["provisional"]
    report = ingest(context, request, ThreadRunner(1, retry_delay_s=0))
    assert report.published
    assert not report.provisional
    status = read_status(context, request).as_json()
    assert (status["published"], status["provisional"], status["states"]) == (1, 0, [])


def test_what_is_published_provisionally_is_told(service: Service) -> None:
    report = service.run(PATIENT)
    assert report.as_json()["provisional"] == report.published
    assert report.summary.startswith("1 published, 1 provisional in ")
    figures = build_metrics("watch", report, PATIENT)
    labels = {"command": "watch", "state": "provisional"}
    assert figures.get_sample_value("cloudmask_run_scenes", labels) == 1


def test_force_makes_the_mask_again_by_no_worse_method(service: Service) -> None:
    product = edit(service, 0, score=START)
    service.run(PATIENT)
    take_score_away(service, product)
    service.run(PATIENT, look_back=())
    context, request = build_ingest(service, PATIENT)
    forced = request.model_copy(update={"force": True})
    report = ingest(context, forced, ThreadRunner(1, retry_delay_s=0))
    assert len(report.waiting) == 1
    assert read_published(service)["method"] == "cloud-score-plus"
    assert CLOUD_SCORE_PLUS in report.waiting[0].reason


@pytest.mark.parametrize("method", ["csmask,cloud-score-plus", "cloud-score-plus,csmask"])
def test_a_method_that_lacks_its_account_ends_the_run_before_anything_is_done(
    method: str, sample_items: Path, tmp_path: Path
) -> None:
    request = IngestRequest(items=str(sample_items), method=method, store=str(tmp_path / "out"))
    context = RunContext.of(request)
    with pytest.raises(SettingsError, match="CLOUDMASK_EARTHENGINE_PROJECT"):
        ingest(context, request, ThreadRunner(1, retry_delay_s=0))
    assert not list(tmp_path.rglob("*.json"))


def test_an_item_that_lacks_a_band_of_the_better_method_is_masked_by_the_next(
    sample_items: Path, tmp_path: Path
) -> None:
    """The lesser one needs no account either: the item has a cloud probability."""
    item, *_ = json.loads(sample_items.read_bytes())["features"]
    del item["assets"]["B11"]
    items, store = copy_archive(sample_items, tmp_path / "archive", [item]), tmp_path / "out"
    request = IngestRequest(items=str(items), method="csmask,s2cloudless", store=str(store))

    def run() -> Report:
        return ingest(RunContext.of(request), request, ThreadRunner(1, retry_delay_s=0))

    report = run()
    assert report.provisional == report.published == (item["id"],)
    (published,) = store.rglob(f"{item['id']}/{item['id']}.json")
    assert json.loads(published.read_text())["properties"]["cloudmask:method"] == "s2cloudless"
    (state,) = list_states(open_store(str(store)))
    assert state.reason == f"csmask: item {item['id']}: assets.B11 is missing"
    again = run()
    assert (again.skipped, again.failed) == (report.published, ())
