"""A year of a watched archive by a ladder of methods."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.states import StateKind, list_states
from pc_cloudmask.errors import SourceDenied
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import walk_catalog
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.runs.archive import DAY, DAYS, NEVER, SETTLING_DAYS, START, Archive, build_archive
from tests.runs.service import find_item, read_linked, run_service
from tests.runs.weather import WEATHERS

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
        for day in [*range(0, DAYS, 4), *SETTLING_DAYS[::18]]:
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
