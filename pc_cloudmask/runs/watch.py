"""Watch areas for years: publish new and late scenes, update changed ones, and withdraw those that are gone.

``area_state.py`` decides what is due and why; ``withdrawals.py`` what is withdrawn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, product

from pc_cloudmask.catalog.states import list_states
from pc_cloudmask.errors import CloudmaskError, SourceError, SourceMistaken
from pc_cloudmask.runs.area_state import (
    LookBack,
    Scan,
    find_due,
    list_scans,
    read_area_state,
    write_area_state,
)
from pc_cloudmask.runs.budget import Budget
from pc_cloudmask.runs.context import RunContext, check_reachable
from pc_cloudmask.runs.ingest import Ingestion, retry_due_scenes
from pc_cloudmask.runs.report import Observer, Report, build_report
from pc_cloudmask.runs.request import WatchRequest
from pc_cloudmask.runs.runners import Runner
from pc_cloudmask.runs.withdrawals import Withdrawals
from pc_cloudmask.scene.query import Interval, SceneQuery
from pc_cloudmask.scene.scene import TILE_FORM, is_item_id
from pc_cloudmask.settings import Area
from pc_cloudmask.source.fields import Item, SceneSource, find_property
from pc_cloudmask.storage.store import ObjectStore

logger = logging.getLogger(__name__)


def watch(
    context: RunContext, request: WatchRequest, runner: Runner, observer: Observer | None = None
) -> Report:
    """Reconcile the areas of ``request`` with what is published, once.

    An area whose source cannot be reached is skipped in this run, and reported in ``problems``.

    Raises:
        SourceMistaken: no answer came from a STAC API.
        CloudmaskError: an error that no later run can overcome: settings, credentials, a store that refuses us.
    """
    started = time.monotonic()
    settings, areas = context.settings, request.read_areas(context.settings)
    check_reachable(context.source, SceneQuery(), settings, request.items)
    budget = Budget(settings, settings.request_budget, request.limit, context.meter)
    ingestion = Ingestion(context, runner, observer, budget=budget)
    withdrawals = Withdrawals(context.source, context.publisher, context.store, settings, context.now)
    problems, watched = _Problems(), _WatchedAreas(context, request, areas)
    is_late = partial(_is_late, request, started)

    def scan(name: str, *, everything: bool) -> None:
        area, scans = watched.list_due(name, everything=everything)
        area.scan(scans, ingestion, withdrawals, is_late)

    if _begin(context, ingestion, problems):
        # A limited budget is spent area by area; otherwise all that is new is paired together.
        together = watched.find_new() if len(areas) > 1 and not budget.is_limited else iter(())
        if _publish_together(together, ingestion, problems):
            _scan_areas(areas, scan, problems)
    if problems.are_of_url(areas):
        raise problems.errors[0]
    return build_report(
        ingestion.outcomes,
        time.monotonic() - started,
        withdrawn=tuple(sorted(withdrawals.withdrawn)),
        deferred=ingestion.deferred,
        problems=tuple(problems.texts),
        unpushed=context.unpushed,
        transfer=context.read_transfer(),
    )


def _is_late(request: WatchRequest, started: float) -> bool:
    """Return True once a run that began at ``started`` by the monotonic clock has used up its time."""
    return request.seconds is not None and time.monotonic() - started >= request.seconds


class AreaWatch:
    """Scans one area; each complete scan is recorded in the store at once."""

    def __init__(self, store: ObjectStore, source: SceneSource, name: str, area: Area) -> None:
        self._store = store
        self._source = source
        self._name = name
        self._area = area
        self._found: dict[Interval, frozenset[str] | SourceError] = {}
        self.start = area.start
        self.state = read_area_state(store, name, area.digest)

    def scan(
        self,
        scans: Iterable[Scan],
        ingestion: Ingestion,
        withdrawals: Withdrawals,
        is_late: Callable[[], bool],
    ) -> None:
        """Publish what is new in ``scans`` and withdraw what is gone, until a budget or the time is used up.

        Raises:
            CloudmaskError: the source, the engine or the store ended the scan; completed work is kept.
        """
        for scan in scans:
            if scan.look_back is LookBack.FULL and is_late():
                logger.info("the scan of everything goes on at %s in the next run", scan.left["full_next"])
                return
            seen = self._publish(scan.interval, ingestion)
            if scan.look_back is LookBack.HOT:
                continue
            if not ingestion.is_complete:
                self._note(scan.left)
                return
            missing_scans = withdrawals.reconcile(self.state, scan.interval, seen)
            self._note({**scan.done, "missing_scans": missing_scans})

    def find_items(self, scans: Iterable[Scan]) -> Iterator[Item]:
        """Yield the items that the source has in ``scans``; ``scan`` then uses the result or raises the error."""
        for each in scans:
            seen: set[str] = set()
            try:
                yield from self._list_items(each.interval, seen)
                self._found[each.interval] = frozenset(seen)
            except SourceError as error:
                self._found[each.interval] = error

    def _publish(self, interval: Interval, ingestion: Ingestion) -> frozenset[str]:
        """Publish what the source has within ``interval``; return the ids of everything it has there."""
        found = self._found.pop(interval, None)
        if isinstance(found, SourceError):
            raise found
        if found is not None:
            return found
        seen: set[str] = set()
        ingestion.publish(self._list_items(interval, seen))
        return frozenset(seen)

    def _list_items(self, interval: Interval, seen: set[str]) -> Iterator[Item]:
        tiles = {*self._area.tiles, *self.state.tiles}
        query = self._area.read_query(interval)
        logger.info("area %s: looking at %s", self._name, query.datetime)
        yield from _record(self._source.find_items(query), seen, tiles)
        self.state = self.state.model_copy(update={"tiles": frozenset(tiles)})

    def _note(self, changes: Mapping[str, object]) -> None:
        if changes:
            self.state = self.state.model_copy(update=changes)
            write_area_state(self._store, self._name, self.state)


class _WatchedAreas:
    """The areas of a run: opened once for what is new, and once more for a full scan."""

    def __init__(self, context: RunContext, request: WatchRequest, areas: Mapping[str, Area]) -> None:
        self._context = context
        self._look_backs = request.look_back
        self._areas = areas
        self._opened: dict[str, AreaWatch] = {}

    def list_due(self, name: str, *, everything: bool) -> tuple[AreaWatch, Iterator[Scan]]:
        """Return the area and the scans due there: the full one, or all the others."""
        context = self._context
        if everything or name not in self._opened:
            self._opened[name] = AreaWatch(context.store, context.source, name, self._areas[name])
        area = self._opened[name]
        look_backs = [
            each
            for each in self._look_backs or find_due(area.state, context.now)
            if (each is LookBack.FULL) is everything
        ]
        days = context.settings.look_back_days
        return area, chain.from_iterable(
            list_scans(area.state, each, area.start, context.now, days) for each in look_backs
        )

    def find_new(self) -> Iterator[Item]:
        """Yield what is new in all areas."""
        for name in self._areas:
            area, scans = self.list_due(name, everything=False)
            yield from area.find_items(scans)


def _record(items: Iterable[Item], seen: set[str], tiles: set[str]) -> Iterator[Item]:
    """Yield ``items`` unchanged; add their ids and tiles to the sets if they are well formed."""
    for item in items:
        item_id, tile = item.get("id"), find_property(item, "s2:mgrs_tile")
        if isinstance(item_id, str) and is_item_id(item_id):
            seen.add(item_id)
        if isinstance(tile, str) and TILE_FORM.fullmatch(tile):
            tiles.add(tile)
        yield item


class _Problems:
    """What could not be reached in a run."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.errors: list[CloudmaskError] = []

    def note(self, name: str, error: CloudmaskError) -> None:
        """Record ``error`` if a later run may succeed, else let it end this one."""
        if error.ends_run or not (error.retryable or isinstance(error, SourceError)):
            raise error
        logger.warning("%s: %s", name, error)
        self.texts.append(f"{name}: {error}")
        self.errors.append(error)

    def are_of_url(self, areas: Mapping[str, Area]) -> bool:
        """Return True if something other than a STAC API answered in every area: its URL is wrong, or it is blocked."""
        return len(self.errors) >= len(areas) and all(
            isinstance(error, SourceMistaken) for error in self.errors
        )


def _begin(context: RunContext, ingestion: Ingestion, problems: _Problems) -> bool:
    """Retry what is due; return True if what every area needs can be reached."""
    try:
        ingestion.begin(noted=list_states(context.store))
        retry_due_scenes(context.source, ingestion, context.now)
    except SourceError as error:
        problems.note("scenes to try again", error)
    except CloudmaskError as error:
        problems.note("this run", error)
        return False
    return True


def _publish_together(items: Iterator[Item], ingestion: Ingestion, problems: _Problems) -> bool:
    """Publish what is new in all areas, sharing pairing requests between them; return True on success."""
    try:
        ingestion.publish(items)
    except CloudmaskError as error:
        problems.note("what is new", error)
        return False
    return True


def _scan_areas(areas: Iterable[str], scan: Callable[..., None], problems: _Problems) -> None:
    """Scan what is new in each area, then everything in each, which may use up the budget of the run."""
    out_of_reach: set[str] = set()
    for everything, name in product((False, True), areas):
        if name in out_of_reach:
            continue
        try:
            scan(name, everything=everything)
        except SourceError as error:
            problems.note(f"area {name}", error)
            out_of_reach.add(name)
        except CloudmaskError as error:
            problems.note(f"area {name}", error)
            return
