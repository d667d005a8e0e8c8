"""The publishing of items, batch by batch, that every run consists of."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from flows.budget import Budget
from flows.candidate import Candidate, pair_candidates, read_candidates, select_unpublished
from flows.outcomes import MAX_NEW_STATES, find_remembered, hold_back, remember_outcomes
from flows.ports import Item
from flows.publish.mirror import append_mirror, check_available
from flows.publish.scene_states import NotedState, StateKind, find_state
from flows.publish_cloudmask import publish_cloudmask
from flows.report import SceneOutcome, SceneState
from flows.runners import Runner
from flows.stac.layout import ItemKeys
from flows.wiring import Wiring

BATCH_SCENES = 250
"""Scenes that are paired, published and linked together: one page of the Planetary Computer's API.

A run that dies loses the links of one batch at the most, and the next run restores those.
"""

T = TypeVar("T")

logger = logging.getLogger(__name__)


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


class Ingestion:
    """One run's publishing; ``outcomes`` are those of all scenes so far, each scene's once.

    ``noted`` are states that earlier runs left: a scene that it is not time to try again is held back.
    """

    def __init__(
        self,
        wiring: Wiring,
        runner: Runner,
        observer: Observer | None = None,
        *,
        budget: Budget | None = None,
        force: bool = False,
    ) -> None:
        self._wiring = wiring
        self._runner = runner
        self._observer = observer or SilentObserver()
        self._budget = budget or Budget(wiring.settings)
        self._force = force
        self._remembered: frozenset[str] = frozenset()
        self.noted: dict[str, NotedState] = {}
        self._ended: set[str] = set()
        self._room = MAX_NEW_STATES
        self.outcomes: list[SceneOutcome] = []

    @property
    def deferred(self) -> int:
        """Scenes that the budget left to a later run."""
        return self._budget.deferred

    def begin(self, noted: Iterable[NotedState] = ()) -> None:
        """End what a run that died had begun; hold back those of ``noted`` that are not due.

        Raises:
            CloudmaskError: the run cannot go on: settings or store.
        """
        if self._wiring.settings.mirror:
            check_available()
        self._wiring.publisher.recover()
        # A run that died while a scene changed from waiting to failed, or back, left both: the later holds.
        self.noted = {state.item_id: state for state in sorted(noted, key=lambda state: state.last_try)}
        self._remembered = find_remembered(self._wiring.store)

    def publish(self, items: Iterable[Item]) -> None:
        """Publish what the catalog lacks of ``items``; one scene's failure stops no other.

        Raises:
            CloudmaskError: the run cannot go on: source, engine or store.
        """
        for batch in batches(items, BATCH_SCENES):
            new = [item for item in batch if str(item.get("id")) not in self._ended]
            self._observer.scenes_found(len(new))
            self.note(self._publish_batch(new))

    def read_unlisted(self, ids: Iterable[str]) -> list[NotedState]:
        """The states that earlier runs left of ``ids``, of those scenes whose items this run did not meet."""
        unlisted = sorted(self._remembered.intersection(ids) - self._ended)
        states = [find_state(self._wiring.store, kind, each) for each in unlisted for kind in StateKind]
        return [state for state in states if state is not None]

    def note(self, outcomes: Iterable[SceneOutcome]) -> None:
        """Tell of ``outcomes`` as they come; remember them beside the catalog once they are all there."""
        ended = []
        for outcome in outcomes:
            self._observer.scene_ended(outcome)
            ended.append(outcome)
        self.outcomes += ended
        self._ended.update(outcome.id for outcome in ended)
        self._remember(ended)

    def _remember(self, ended: list[SceneOutcome]) -> None:
        """Note how scenes ended, as far as there is room; say once where there is none."""
        had_room, room = self._room >= 0, max(0, self._room)
        left = remember_outcomes(self._wiring.store, ended, self._remembered, self._wiring.now, room)
        self._room = min(self._room, left)
        if had_room and left < 0:
            logger.warning(
                "more than %d scenes wait or failed for the first time: the others are in the report alone, "
                "and the next run tries them again",
                MAX_NEW_STATES,
            )

    def _publish_batch(self, items: list[Item]) -> Iterator[SceneOutcome]:
        """The outcomes of one batch: select, pair, publish, link."""
        wiring, settings = self._wiring, self._wiring.settings
        candidates, refused = read_candidates(items, settings.method, settings.mask_parameters)
        yield from (hold_back(outcome, self.noted, wiring.now) or outcome for outcome in refused)
        unpublished, skipped = select_unpublished(
            candidates, wiring.publisher.find_published, force=self._force, workers=settings.workers
        )
        yield from skipped
        current = {outcome.id for outcome in skipped}
        wiring.publisher.link_missing(each.keys for each in candidates if each.scene.id in current)
        held = {each.scene.id: hold_back(each, self.noted, wiring.now) for each in unpublished}
        yield from filter(None, held.values())
        wanted = [each for each in unpublished if not held[each.scene.id]]
        if not wanted:
            return
        # Before Earth Engine is asked for anything: a store that refuses us is no fault of any scene.
        wiring.publisher.check_writers()
        paired, waiting = self._pair(wanted)
        yield from waiting
        keys = {candidate.scene.id: candidate.keys for candidate in paired}
        published: list[ItemKeys] = []
        for outcome in self._runner.run_scenes(partial(publish_cloudmask, wiring), paired):
            if outcome.state is SceneState.PUBLISHED:
                published.append(keys[outcome.id])
            yield outcome
        if settings.mirror:
            # Before the catalogs: the collection lists the part in the same write that covers its items.
            self._mirror_items(published)
        wiring.publisher.publish_catalogs(published)
        logger.info("%d items linked", len(published))

    def _pair(self, wanted: list[Candidate]) -> tuple[list[Candidate], list[SceneOutcome]]:
        """Those that the budget allows with their granules, and those that turn out to wait."""
        paired: list[Candidate] = []
        waiting: list[SceneOutcome] = []
        while affordable := self._budget.select_affordable(wanted):
            pairings = self._wiring.engine.find_granules([candidate.scene for candidate in affordable])
            found, late = pair_candidates(affordable, pairings)
            late_ids = {outcome.id for outcome in late}
            self._budget.give_back([each for each in affordable if each.scene.id in late_ids])
            paired += found
            waiting += late
            wanted = wanted[len(affordable) :]
        self._budget.defer(wanted)
        return paired, waiting

    def _mirror_items(self, published: list[ItemKeys]) -> None:
        """Append the items just published to the geoparquet mirror, as a part of their own."""
        find = self._wiring.publisher.find_published
        with ThreadPoolExecutor(self._wiring.settings.workers) as pool:
            items = [item for item in pool.map(find, published) if item is not None]
        append_mirror(self._wiring.store, items, f"{self._wiring.now:%Y%m%dT%H%M%SZ}")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``items`` in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
