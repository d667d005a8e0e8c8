"""Publish items batch by batch, the core of every run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Any, TypeVar

from pc_cloudmask.catalog.export import update_tile_index
from pc_cloudmask.catalog.layout import ItemKeys, is_state_key
from pc_cloudmask.catalog.mirror import append_mirror, check_available
from pc_cloudmask.catalog.states import (
    Failure,
    NotedState,
    StateKind,
    clear_state,
    find_state,
    record_failed,
    record_waiting,
)
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.raster.gdal import check_projections
from pc_cloudmask.runs.budget import Budget
from pc_cloudmask.runs.candidate import (
    Candidate,
    build_waiting,
    conclude,
    read_candidates,
    select_unpublished,
)
from pc_cloudmask.runs.context import RunContext, check_reachable
from pc_cloudmask.runs.report import Observer, Report, SceneOutcome, SceneState, build_report
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import Runner, run_overlapped
from pc_cloudmask.runs.scene import publish_cloudmask
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.scene.scene import is_item_id
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectStore

#: Scenes that are paired, published and linked together: one page of the Planetary Computer's API. A run that dies
#: loses at most the links of one batch, and the next run restores them.
BATCH_SCENES = 250
#: While the last scenes of one batch are finished and linked, the next one is paired and downloads.
BATCHES_AT_ONCE = 2
#: Scenes that one run may record as waiting or failed for the first time. Each later run reads all states, which takes
#: ten seconds from a bucket for this many. One page of junk wrote 55,763.
MAX_NEW_STATES = 5_000
#: States written in parallel: requests wait for the network, or for the disk to sync.
_WRITERS = 16
#: Due scenes that the source is asked for in one request.
IDS_AT_ONCE = 100
UNLISTED = "the source does not list it now"
#: After this many attempts, a scene that the source failed to list twice in a row is forgotten; one empty answer is not
#: enough. If the source lists it again, the full scan finds it.
FORGET_AFTER = 5
T = TypeVar("T")
logger = logging.getLogger(__name__)


def ingest(
    context: RunContext, request: IngestRequest, runner: Runner, observer: Observer | None = None
) -> Report:
    """Publish the mask of every scene that ``request`` asks for and the catalog lacks.

    The failure of one scene does not stop others; it is in the report. An error of settings, store or source is raised.
    """
    started = time.monotonic()
    query = request.read_query()
    check_reachable(context.source, query, context.settings, request.items)
    ingestion = Ingestion(context, runner, observer, force=request.force)
    ingestion.begin()
    ingestion.publish(context.source.find_items(query))
    if query.names_only_ids:
        ingestion.leave_unlisted(ingestion.read_unlisted(query.ids))
    return ingestion.build_report(started)


class Ingestion:
    """The publishing of one run; ``outcomes`` has one entry for each scene so far.

    ``noted`` are states that earlier runs recorded: scenes that are not due yet are held back. See ``candidate`` for
    which method makes a mask, and which mask may replace another. A ``CloudmaskError`` that is raised here is not of a
    scene but of settings, source, engine or store; completed work is kept and recorded.
    """

    def __init__(
        self,
        context: RunContext,
        runner: Runner,
        observer: Observer | None = None,
        *,
        budget: Budget | None = None,
        force: bool = False,
    ) -> None:
        self._context = context
        self._runner = runner
        self._observer = observer or Observer()
        self._budget = budget or Budget(context.settings, context.meter)
        self._force = force
        self._remembered: frozenset[str] = frozenset()
        self.noted: dict[str, NotedState] = {}
        self._met: set[str] = set()
        self._noting = Lock()
        self._linking = Lock()
        self._room = MAX_NEW_STATES
        self.outcomes: list[SceneOutcome] = []

    @property
    def is_complete(self) -> bool:
        """True if each scene so far is published or recorded as waiting or failed, with none left out."""
        return not self._budget.deferred and self._room >= 0

    def begin(self, noted: Iterable[NotedState] = ()) -> None:
        """Finish what a dead run had begun; hold back those of ``noted`` that are not due."""
        if self._context.settings.mirror:
            check_available()
        check_projections()
        self._context.check_engines()
        self._context.publisher.recover()
        # A run that died while a scene changed between waiting and failed left both states: the later one counts.
        self.noted = {state.item_id: state for state in sorted(noted, key=lambda state: state.last_try)}
        self._remembered = find_remembered(self._context.store)

    def publish(self, items: Iterable[Item]) -> None:
        """Publish the ``items`` that the catalog lacks; the failure of one scene does not stop others."""
        jobs = (partial(self._pass_on, self._publish_batch(batch)) for batch in self._read_batches(items))
        # A limited budget is spent on the scenes found first.
        for outcome in run_overlapped(jobs, 1 if self._budget.is_limited else BATCHES_AT_ONCE):
            self._observer.scene_ended(outcome)

    def retry_due(self) -> None:
        """Publish the scenes that an earlier run recorded and that are due, wherever they are."""
        due = {state.item_id: state for state in self.noted.values() if state.is_due(self._context.now)}
        listed: set[str] = set()
        self.publish(self._find_items(sorted(due), listed))
        self.leave_unlisted(state for item_id, state in sorted(due.items()) if item_id not in listed)

    def _find_items(self, ids: list[str], listed: set[str]) -> Iterator[Item]:
        """Yield the items of ``ids``, with one request per hundred; add the ids that the source has to ``listed``."""
        for asked in batches(ids, IDS_AT_ONCE):
            for item in self._context.source.find_items(SceneQuery(ids=tuple(asked))):
                listed.add(str(item.get("id")))
                yield item

    def build_report(self, started: float, **extra: Any) -> Report:
        """Return the report of the run that began at ``started`` by the monotonic clock."""
        return build_report(
            self.outcomes,
            time.monotonic() - started,
            deferred=self._budget.deferred,
            unpushed=self._context.push.unpushed if self._context.push else 0,
            transfer=self._context.read_transfer(),
            **extra,
        )

    def _read_batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Yield batches of items that this run has not met before."""
        for batch in batches(items, BATCH_SCENES):
            new = [item for item in batch if str(item.get("id")) not in self._met]
            self._met.update(str(item.get("id")) for item in new)
            self._observer.scenes_found(len(new))
            yield new

    def note(self, outcomes: Iterable[SceneOutcome]) -> None:
        """Report ``outcomes`` to the observer as they come, and record them in the store once all have come."""
        for outcome in self._pass_on(outcomes):
            self._observer.scene_ended(outcome)

    def _pass_on(self, outcomes: Iterable[SceneOutcome]) -> Iterator[SceneOutcome]:
        ended: list[SceneOutcome] = []
        try:
            for outcome in outcomes:
                ended.append(outcome)
                yield outcome
        except CloudmaskError:
            self._remember(ended)
            raise
        self._remember(ended)

    def _remember(self, ended: list[SceneOutcome]) -> None:
        """Record the outcomes in the store, and log a warning, once, when there is no room for further states."""
        with self._noting:
            self.outcomes += ended
            had_room, room = self._room >= 0, max(0, self._room)
            left = remember_outcomes(self._context.store, ended, self._remembered, self._context.now, room)
            self._room = min(self._room, left)
            if had_room and left < 0:
                logger.warning(
                    "more than %d scenes wait or failed for the first time: the others are in the report alone, "
                    "and the next run tries them again",
                    MAX_NEW_STATES,
                )

    def leave_unlisted(self, unlisted: Iterable[NotedState]) -> None:
        """Make scenes that the source does not list wait, even quarantined ones, until it does or they are forgotten.

        A provisional one keeps its mask.
        """
        kept = []
        for state in unlisted:
            if state.attempts >= FORGET_AFTER and state.reason == UNLISTED:
                clear_state(self._context.store, state.item_id)
            else:
                outcome = build_waiting(state.item_id, UNLISTED, state.fingerprint)
                if state.kind is StateKind.PROVISIONAL:
                    outcome = replace(outcome, state=SceneState.SKIPPED, provisional=True)
                kept.append(outcome)
        self.note(kept)

    def read_unlisted(self, ids: Iterable[str]) -> list[NotedState]:
        """Return the states that earlier runs recorded for those of ``ids`` whose items this run did not meet."""
        unlisted = sorted(self._remembered.intersection(ids) - self._met)
        states = (find_state(self._context.store, kind, each) for each in unlisted for kind in StateKind)
        return list(filter(None, states))

    def _publish_batch(self, items: list[Item]) -> Iterator[SceneOutcome]:
        """Yield the outcomes of one batch: select, pair, publish, link."""
        context, settings = self._context, self._context.settings
        candidates, refused = read_candidates(items, settings.rungs)
        yield from (hold_back(outcome, self.noted, context.now) or outcome for outcome in refused)
        unpublished, final = select_unpublished(
            candidates,
            context.publisher.find_published,
            context.ladder,
            context.now,
            force=self._force,
            workers=settings.workers,
        )
        yield from (SceneOutcome(candidate.scene.id, SceneState.SKIPPED) for candidate in final)
        with self._linking:
            context.publisher.link_missing(each.keys for each in (*final, *unpublished) if each.is_current)
        held = {each.scene.id: hold_back(each, self.noted, context.now) for each in unpublished}
        yield from filter(None, held.values())
        wanted = [each for each in unpublished if not held[each.scene.id]]
        if not wanted:
            return
        # Before any request to Earth Engine: a store that refuses us is not the fault of a scene.
        context.publisher.check_writers()
        keys = {candidate.scene.id: candidate.keys for candidate in wanted}
        published: list[ItemKeys] = []
        fault: CloudmaskError | None = None
        try:
            for outcome in self._climb(wanted):
                if outcome.state is SceneState.PUBLISHED:
                    published.append(keys[outcome.id])
                yield outcome
        except CloudmaskError as error:
            fault = error  # raised once everything published is linked
        self._link(published)
        context.read_costs(keys)
        if fault:
            raise fault

    def _link(self, published: list[ItemKeys]) -> None:
        """Link the items of one batch; one batch at a time, because a bucket may allow only one writer."""
        with self._linking:
            if self._context.settings.mirror:
                # Before the catalogs, so that one write of the collection lists the part and covers its items.
                self._mirror_items(published)
            self._context.publisher.publish_catalogs(published)
            if self._context.settings.mirror:
                update_tile_index(self._context.store, self._context.publisher, published)
        logger.info("%d items linked", len(published))

    def _climb(self, wanted: list[Candidate]) -> Iterator[SceneOutcome]:
        """Yield how scenes end: each method of the ladder gets those for which the better ones lack their input."""
        for method in self._context.ladder.methods:
            if not wanted:
                return
            by_id = {candidate.scene.id: candidate for candidate in wanted}
            paired, waiting = self._pair(method, wanted)
            wanted = []
            work = partial(publish_cloudmask, self._context)
            for outcome in chain(waiting, self._runner.run_scenes(work, paired)):
                if not outcome.lacks_input:
                    yield outcome
                    continue
                tried = by_id[outcome.id].note_lack(outcome)
                if tried.is_spent:
                    yield conclude(tried, self._context.ladder)
                else:
                    wanted.append(tried)

    def _pair(self, method: str, wanted: list[Candidate]) -> tuple[list[Candidate], list[SceneOutcome]]:
        """Return the candidates within the budget, with their images, and outcomes for those without an image yet."""
        paired: list[Candidate] = []
        waiting: list[SceneOutcome] = []
        while affordable := self._budget.select_affordable(wanted):
            pairings = self._context.engines[method].find_images([each.scene for each in affordable])
            for candidate in affordable:
                pairing = pairings[candidate.scene.id]
                if isinstance(pairing, EarthEngineImage):
                    paired.append(replace(candidate, ee_image=pairing))
                else:
                    self._budget.give_back(candidate)
                    waiting.append(build_waiting(candidate.scene.id, pairing.reason, candidate.fingerprint))
            wanted = wanted[len(affordable) :]
        self._budget.defer(wanted)
        return paired, waiting

    def _mirror_items(self, published: list[ItemKeys]) -> None:
        """Append the items just published to the geoparquet mirror, as a new part."""
        find = self._context.publisher.find_published
        with ThreadPoolExecutor(self._context.settings.workers) as pool:
            items = [item for item in pool.map(find, published) if item is not None]
        append_mirror(self._context.store, items, f"{self._context.now:%Y%m%dT%H%M%SZ}")


def find_remembered(store: ObjectStore) -> frozenset[str]:
    """Return the ids of the scenes that earlier runs recorded for another try; one listing for each kind."""
    return frozenset(
        info.key.removeprefix(kind.prefix).removesuffix(".json")
        for kind in StateKind
        for info in store.list_objects(kind.prefix)
        if is_state_key(info.key)
    )


def remember_outcomes(
    store: ObjectStore,
    outcomes: Iterable[SceneOutcome],
    remembered: frozenset[str],
    now: datetime,
    room: int = MAX_NEW_STATES,
) -> int:
    """Record each waiting, failed or provisional scene, and forget the state of scenes whose mask is now final.

    Outcomes with an id that cannot be a key, from items refused for that, are only in the report, and so are new ones
    beyond the first ``room``. Scenes that were held back are recorded already. Return the remaining ``room``; if
    negative, the number of scenes that could not be recorded.
    """

    def remember(outcome: SceneOutcome) -> None:
        if outcome.state is SceneState.WAITING or outcome.provisional:
            kind = StateKind.PROVISIONAL if outcome.provisional else StateKind.WAITING
            record_waiting(store, outcome.id, outcome.reason, now, outcome.fingerprint, kind)
        elif outcome.state is SceneState.FAILED:
            failure = Failure(outcome.error_class, outcome.reason, outcome.retryable, outcome.fingerprint)
            record_failed(store, outcome.id, failure, now)
        elif outcome.id in remembered:
            clear_state(store, outcome.id)

    told = [outcome for outcome in outcomes if not outcome.held and is_item_id(outcome.id)]
    noted = (SceneState.WAITING, SceneState.FAILED)
    to_note = (outcome for outcome in told if outcome.state in noted or outcome.provisional)
    new = [outcome for outcome in to_note if outcome.id not in remembered]
    beyond = {outcome.id for outcome in new[room:]}
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(remember, (outcome for outcome in told if outcome.id not in beyond)))
    return room - len(new)


def hold_back(
    scene: Candidate | SceneOutcome, noted: Mapping[str, NotedState], now: datetime
) -> SceneOutcome | None:
    """Return the outcome of a scene that an earlier run deferred and that is not due yet.

    Return None for a scene to be tried: it has no state, it is due, its item or the methods that may make its mask have
    changed, or the catalog contradicts the state.
    """
    scene_id, is_published = (
        (scene.scene.id, scene.is_current) if isinstance(scene, Candidate) else (scene.id, False)
    )
    state = noted.get(scene_id)
    if state is None or state.is_due(now) or state.fingerprint != scene.fingerprint:
        return None
    if state.kind is StateKind.PROVISIONAL:
        return SceneOutcome(scene_id, SceneState.SKIPPED, state.reason, held=True) if is_published else None
    if state.kind is StateKind.WAITING and is_published:
        return None
    return SceneOutcome(
        scene_id,
        SceneState(state.kind),
        state.reason,
        retryable=not state.is_quarantined,
        error_class=state.error_class,
        held=True,
        fingerprint=state.fingerprint,
    )


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield ``items`` in lists of ``size``; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
