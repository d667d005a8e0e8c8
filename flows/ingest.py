"""The main job: find items, publish each, finalise once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Protocol

from flows.candidate import pair_candidates, read_candidates, select_unpublished
from flows.outcomes import find_remembered, remember_outcomes
from flows.ports import Item
from flows.publish.mirror import append_mirror, check_available
from flows.publish_cloudmask import publish_cloudmask
from flows.report import Report, SceneOutcome, SceneState, build_report
from flows.runners import Runner
from flows.scene.query import SceneQuery
from flows.stac.layout import ItemKeys
from flows.wiring import Wiring

BATCH_SCENES = 250
"""Scenes that are paired, published and linked together: one page of the Planetary Computer's API.

A run that dies loses the links of one batch at the most, and the next run restores those.
"""


class Observer(Protocol):
    """Is told how a run goes on."""

    def scenes_found(self, count: int) -> None:
        """``count`` further scenes were found."""
        ...

    def scene_ended(self, outcome: SceneOutcome) -> None:
        """One scene ended."""
        ...


class SilentObserver:
    """Tells nobody."""

    def scenes_found(self, count: int) -> None:
        """Nothing."""

    def scene_ended(self, outcome: SceneOutcome) -> None:
        """Nothing."""


def ingest(
    wiring: Wiring,
    query: SceneQuery,
    runner: Runner,
    observer: Observer | None = None,
    *,
    force: bool = False,
) -> Report:
    """Publish the mask of every scene that ``query`` finds and the catalog lacks.

    One scene's failure stops no other; it is in the report.

    Raises:
        CloudmaskError: the run as a whole cannot go on: settings, store or source.
    """
    observer = observer or SilentObserver()
    started = time.monotonic()
    if wiring.settings.mirror:
        check_available()
    outcomes: list[SceneOutcome] = []
    wiring.publisher.recover()
    remembered = find_remembered(wiring.store)
    for items in batches(wiring.source.find_items(query), BATCH_SCENES):
        ended = []
        for outcome in ingest_batch(wiring, items, runner, observer, force=force):
            observer.scene_ended(outcome)
            ended.append(outcome)
        remember_outcomes(wiring.store, ended, remembered, wiring.now)
        outcomes += ended
    return build_report(outcomes, time.monotonic() - started, wiring.read_transfer())


def ingest_batch(
    wiring: Wiring, items: list[Item], runner: Runner, observer: Observer, *, force: bool
) -> Iterator[SceneOutcome]:
    """The outcomes of one batch: select, pair, publish, link."""
    settings = wiring.settings
    observer.scenes_found(len(items))
    candidates, refused = read_candidates(items, settings.method, settings.mask_parameters)
    yield from refused
    wanted, skipped = select_unpublished(
        candidates, wiring.publisher.find_published, force=force, workers=settings.workers
    )
    yield from skipped
    if not wanted:
        return
    pairings = wiring.engine.find_granules([candidate.scene for candidate in wanted])
    paired, waiting = pair_candidates(wanted, pairings)
    yield from waiting
    keys = {candidate.scene.id: candidate.keys for candidate in paired}
    published: list[ItemKeys] = []
    for outcome in runner.run_scenes(partial(publish_cloudmask, wiring), paired):
        if outcome.state is SceneState.PUBLISHED:
            published.append(keys[outcome.id])
        yield outcome
    if settings.mirror:
        # Before the catalogs: the collection lists the part in the same write that covers its items.
        mirror_items(wiring, published)
    wiring.publisher.publish_catalogs(published)


def mirror_items(wiring: Wiring, published: list[ItemKeys]) -> None:
    """Append the items just published to the geoparquet mirror, as a part of their own."""
    with ThreadPoolExecutor(wiring.settings.workers) as pool:
        items = [item for item in pool.map(wiring.publisher.find_published, published) if item is not None]
    append_mirror(wiring.store, items, f"{wiring.now:%Y%m%dT%H%M%SZ}")


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """``items`` in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
