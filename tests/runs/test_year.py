"""A year of a watched archive, with all that happens to one."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.states import StateKind, list_states
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import walk_catalog
from tests.doubles.earth_engine.faults import ErrorReply, Html
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.runs.archive import DAY, DAYS, SETTLING_DAYS, START, Product, build_archive
from tests.runs.service import find_item, read_linked, run_service
from tests.runs.weather import ENGINE_WEATHERS, ODD_IDS, WEATHERS, let_it_rain, no_access


@pytest.mark.slow
def test_the_catalog_converges_to_the_truth(
    earth_engine: LocalEarthEngine, tmp_path: Path, figures: list[str]
) -> None:
    archive = build_archive(seed=7, days=DAYS)
    dice = random.Random(6892)  # of many, the one that brings each fault at least three times
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    store = tmp_path / "out"
    started = time.monotonic()
    with run_service(archive, earth_engine, store) as service:
        for day in [*range(0, DAYS, 3), *SETTLING_DAYS[::10]]:
            now = START + day * DAY + timedelta(hours=dice.uniform(0, 3))
            weather = dice.choices(*zip(*WEATHERS, strict=True))[0] if day < DAYS else WEATHERS[0][0]
            skew = dice.choice([-1, 1]) * DAY if day < DAYS and dice.random() < 0.05 else timedelta()
            rain = dice.choices(*zip(*ENGINE_WEATHERS, strict=True))[0] if day < DAYS else None
            let_it_rain(earth_engine.faults, rain, dice)
            counts["runs"] += 1
            seen.update((weather.__name__, describe(rain)))
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
    # A year without one of the faults would prove nothing of it.
    assert {each.__name__ for each, _ in WEATHERS} | {describe(each) for each, _ in ENGINE_WEATHERS} == set(
        seen
    )
    gone = [product for product in archive.products if not product.is_listed(now)]
    figures.append(
        f"a simulated year: {len(archive.products)} products of which {len(gone)} were taken back, "
        f"{counts['runs']} runs, {counts['runs with a problem']} of them with a source out of order, "
        f"{counts['runs that ended']} ended as we were not let in; "
        f"{counts['published']} publications, {counts['withdrawn']} withdrawals, {len(truth)} scenes linked, "
        f"all as the truth has it; {time.monotonic() - started:.0f} s; days of each kind: {dict(seen)}"
    )


def describe(rain: ErrorReply | Html | None) -> str:
    """What Earth Engine answers on such a day, in a word or two."""
    if isinstance(rain, ErrorReply):
        return f"{rain.code} {rain.message[:30]}"
    return "right answers" if rain is None else "a web page"


def check_published(item: dict[str, Any], product: Product, now: datetime) -> None:
    """That the item is of the product as its source has it at last."""
    source = product.read_item(now)["properties"]
    assert item["properties"]["s2:mean_solar_zenith"] == source["s2:mean_solar_zenith"]
