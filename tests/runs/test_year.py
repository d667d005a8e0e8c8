"""A year of a watched archive, with all that happens to one."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.states import StateKind, list_states
from pc_cloudmask.errors import CloudmaskError, SourceDenied
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import Walk, keys_of, walk_catalog
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.runs.archive import DAY, NEVER, START, Archive, Product, build_archive
from tests.runs.service import run_service
from tests.runs.weather import ENGINE_WEATHERS, ODD_IDS, WEATHERS, let_it_rain, no_access

DAYS = 366
#: Calm days after the year: the last products are withdrawn half a year later, and three scans of everything,
#: which come once a month, must agree on it.
SETTLING_DAYS = range(DAYS, DAYS + 300, 6)


@pytest.mark.slow
def test_the_catalog_converges_to_the_truth(
    earth_engine: LocalEarthEngine, tmp_path: Path, figures: list[str]
) -> None:
    archive = build_archive(seed=7, days=DAYS)
    dice = random.Random(8)
    counts: Counter[str] = Counter()
    store = tmp_path / "out"
    started = time.monotonic()
    with run_service(archive, earth_engine, store) as service:
        for day in [*range(DAYS), *SETTLING_DAYS]:
            now = START + day * DAY + timedelta(hours=dice.uniform(0, 3))
            weather = dice.choices(*zip(*WEATHERS, strict=True))[0] if day < DAYS else WEATHERS[0][0]
            skew = dice.choice([-1, 1]) * DAY if day < DAYS and dice.random() < 0.05 else timedelta()
            rain = dice.choices(*zip(*ENGINE_WEATHERS, strict=True))[0] if day < DAYS else None
            let_it_rain(earth_engine.faults, rain, dice)
            counts["runs"] += 1
            try:
                report = service.run(now, weather, clock=now + skew, seed=day)
            except CloudmaskError as error:
                if not error.ends_run or (rain is None and weather is not no_access):
                    raise
                counts["runs that ended"] += 1
                continue
            counts.update(report.counts)
            counts["runs with a problem"] += bool(report.problems)
            assert {outcome.id for outcome in report.failed if not outcome.retryable} <= set(ODD_IDS)
            assert all(archive.is_gone(item_id, now) for item_id in report.withdrawn)
    walk = walk_catalog(open_store(str(store)))
    truth = archive.find_truth(now)
    assert not walk.dangling
    assert not walk.repeated
    assert read_linked(walk) == set(truth)
    # What was made again stays reachable from what took its place.
    assert set(walk.items) - set(truth) == archive.find_superseded(now)
    for item_id, product in truth.items():
        check_published(find_item(store, item_id), product, now)
    states = list(list_states(open_store(str(store))))
    assert {state.item_id for state in states if state.kind is StateKind.WAITING} == archive.find_waiting(now)
    # What the environment did is booked on no scene: only what is wrong in itself is left alone.
    assert {state.item_id for state in states if state.kind is StateKind.FAILED} <= set(ODD_IDS)
    verdict = check_catalog(open_store(str(store)), CatalogContext(None), repair=False, now=now)
    assert verdict.is_whole, verdict.findings
    gone = [product for product in archive.products if not product.is_listed(now)]
    figures.append(
        f"a simulated year: {len(archive.products)} products of which {len(gone)} were taken back, "
        f"{counts['runs']} runs, {counts['runs with a problem']} of them with a source out of order, "
        f"{counts['runs that ended']} ended as we were not let in; "
        f"{counts['published']} publications, {counts['withdrawn']} withdrawals, {len(truth)} scenes linked, "
        f"all as the truth has it; {time.monotonic() - started:.0f} s"
    )


LADDER = ("cloud-score-plus", "s2cloudless")


def build_scored_archive(seed: int) -> Archive:
    """A year of one tile, whose scenes' Cloud Score+ comes with their image, late, or never.

    Nothing is taken back in the days after it, of which too few are simulated to be sure of that.
    """
    dice = random.Random(seed)
    scores: dict[datetime, datetime] = {}
    products = [each for each in build_archive(seed, DAYS).products if each.image_of.tile == "22KFV"]
    for each in products:
        late = dice.choices(
            [timedelta(), dice.uniform(4, 30) * DAY, 100 * DAY, NEVER - each.taken], [5, 3, 1, 1]
        )
        scores.setdefault(each.taken, each.taken + late[0])
    return Archive(
        tuple(
            replace(
                each,
                score=max(each.image, scores[each.taken]),
                withdrawn=each.withdrawn if each.withdrawn < START + (DAYS - 30) * DAY else NEVER,
            )
            for each in products
        )
    )


@pytest.mark.slow
def test_a_ladder_masks_early_and_replaces_its_masks_by_better_ones(
    earth_engine: LocalEarthEngine, tmp_path: Path, figures: list[str]
) -> None:
    archive = build_scored_archive(seed=5)
    dice = random.Random(12)
    counts: Counter[str] = Counter()
    ranks: dict[str, int] = {}
    store = tmp_path / "out"
    with run_service(archive, earth_engine, store, methods=LADDER) as service:
        for day in [*range(0, DAYS, 4), *SETTLING_DAYS[::3]]:
            now = START + day * DAY + timedelta(hours=dice.uniform(0, 3))
            weather = dice.choices(*zip(*WEATHERS, strict=True))[0] if day < DAYS else WEATHERS[0][0]
            counts["runs"] += 1
            try:
                report = service.run(now, weather, seed=day)
            except SourceDenied:
                continue
            counts.update(report.counts)
            for item_id in {*report.published, *ranks} - {*report.withdrawn}:
                properties = find_item(store, item_id)["properties"]
                rank = LADDER.index(properties["cloudmask:method"])
                assert properties.get("cloudmask:provisional", False) == (rank > 0)
                if "deprecated" not in properties:
                    assert rank <= ranks.get(item_id, rank), f"{item_id} became worse on day {day}"
                    counts["replaced"] += rank < ranks.get(item_id, rank)
                    ranks[item_id] = rank
            for item_id in report.withdrawn:
                ranks.pop(item_id, None)
    truth = archive.find_truth(now)
    assert read_linked(walk_catalog(open_store(str(store)))) == set(truth)
    provisional = {each.id for each in truth.values() if (each.score or now) > now}
    assert {item_id for item_id in truth if ranks[item_id]} == provisional
    states = list(list_states(open_store(str(store))))
    assert {state.item_id for state in states if state.kind is StateKind.WAITING} == archive.find_waiting(now)
    noted = {state.item_id for state in states if state.kind is StateKind.PROVISIONAL}
    assert noted & truth.keys() == provisional
    verdict = check_catalog(open_store(str(store)), CatalogContext(None), repair=False, now=now)
    assert verdict.is_whole, verdict.findings
    assert counts["replaced"] > 10
    figures.append(
        f"a simulated year with a ladder: {len(archive.products)} products, {counts['runs']} runs; "
        f"{counts['published']} publications, {counts['provisional']} of them early masks by {LADDER[1]}, "
        f"{counts['replaced']} replaced by {LADDER[0]}, none by a worse one; of {len(truth)} scenes linked "
        f"{len(provisional)} are provisional, {len(archive.find_waiting(now))} wait"
    )


def read_linked(walk: Walk) -> set[str]:
    """Ids of the items that the leaves link."""
    links = (link for document in walk.documents.values() for link in document["links"])
    return {link["href"].rpartition("/")[2].removesuffix(".json") for link in links if link["rel"] == "item"}


def check_published(item: dict[str, Any], product: Product, now: datetime) -> None:
    """That the item is of the product as its source has it at last."""
    source = product.read_item(now)["properties"]
    assert item["properties"]["s2:mean_solar_zenith"] == source["s2:mean_solar_zenith"]


def find_item(store: Path, item_id: str) -> dict[str, Any]:
    item: dict[str, Any] = json.loads((store / keys_of(item_id).item).read_text())
    return item
