"""The service that runs for years: what is new, late, changed or gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from pc_cloudmask.catalog.states import list_states
from pc_cloudmask.errors import CloudmaskError, SourceError
from pc_cloudmask.runs.area_state import (
    LookBack,
    LookBackProgress,
    find_hot_interval,
    find_recent_interval,
    list_months,
    read_area_state,
    write_area_state,
)
from pc_cloudmask.runs.candidate import Budget
from pc_cloudmask.runs.context import RunContext, open_runner
from pc_cloudmask.runs.ingest import Ingestion, Observer, ingest, retry_due_scenes
from pc_cloudmask.runs.report import Report, build_report
from pc_cloudmask.runs.request import IngestRequest, WatchRequest
from pc_cloudmask.runs.runners import Runner
from pc_cloudmask.runs.withdrawals import Withdrawals
from pc_cloudmask.scene.ids import TILE_FORM, is_item_id
from pc_cloudmask.scene.query import Interval
from pc_cloudmask.settings import Area
from pc_cloudmask.source.fields import Item, find_property

logger = logging.getLogger(__name__)


class AreaWatch:
    """Scans one area, one look-back window after the other; each scan that is complete is noted in the store at once.

    ``area`` is its name with itself. ``is_late`` tells that the run should leave what remains of a long
    scan to the next one.
    """

    def __init__(
        self,
        context: RunContext,
        ingestion: Ingestion,
        withdrawals: Withdrawals,
        area: tuple[str, Area],
        is_late: Callable[[], bool],
    ) -> None:
        name, self._area = area
        self._context = context
        self._ingestion = ingestion
        self._withdrawals = withdrawals
        self._is_late = is_late
        self._state = read_area_state(context.store, name, self._area.digest)

    def scan(self, look_back: Sequence[LookBack] | None = None, *, whole: bool) -> None:
        """Scan ``look_back``, by default those that are due: with ``whole`` the full one alone, else the others.

        Raises:
            CloudmaskError: the source, the engine or the store ended the scan; what it did stays done.
        """
        for each in look_back or self._state.progress.find_due(self._context.now):
            if (each is LookBack.FULL) is not whole:
                continue
            match each:
                case LookBack.HOT:
                    days = self._context.settings.look_back_days
                    self._publish(find_hot_interval(self._context.now, self._area.start, days))
                case LookBack.RECENT:
                    self._scan_recent()
                case LookBack.FULL:
                    self._scan_everything()

    def _scan_recent(self) -> None:
        now = self._context.now
        if self._reconcile(find_recent_interval(now, self._area.start)):
            self._note(replace(self._state.progress, recent_day=f"{now:%Y-%m-%d}"))

    def _scan_everything(self) -> None:
        """Month by month, the newest first; the next run goes on where this one stops."""
        progress = self._state.progress
        months = list(list_months(self._area.start, progress.find_full_start(self._context.now)))
        this_month = f"{self._context.now:%Y-%m}"
        following: list[str | None] = [month for month, _ in months[1:]]
        for (month, interval), next_month in zip(months, [*following, None], strict=True):
            if self._is_late():
                logger.info("the scan of everything goes on at %s in the next run", month)
                return
            if not self._reconcile(interval):
                self._note(replace(self._state.progress, full_month=this_month, full_next=month))
                return
            self._note(replace(self._state.progress, full_month=this_month, full_next=next_month))

    def _reconcile(self, interval: Interval) -> bool:
        """Publish what the source has within ``interval``, withdraw what it lacks; whether all was done."""
        seen = self._publish(interval)
        if self._ingestion.deferred:
            return False
        self._state = self._withdrawals.reconcile(self._state, interval, seen)
        return True

    def _publish(self, interval: Interval) -> frozenset[str]:
        """Publish what the source has within ``interval``; the ids of all that it has there."""
        seen: set[str] = set()
        tiles: set[str] = set()
        query = self._area.read_query(interval)
        logger.info("area %s: looking at %s", self._state.name, query.datetime)
        self._ingestion.publish(_record(self._context.source.find_items(query), seen, tiles))
        self._state = replace(self._state, tiles=self._state.tiles | tiles | set(self._area.tiles))
        return frozenset(seen)

    def _note(self, progress: LookBackProgress) -> None:
        self._state = replace(self._state, progress=progress)
        write_area_state(self._context.store, self._state)


def _record(items: Iterable[Item], seen: set[str], tiles: set[str]) -> Iterator[Item]:
    """``items`` as they are; their ids and tiles, where those are such, are put into the sets."""
    for item in items:
        item_id, tile = item.get("id"), find_property(item, "s2:mgrs_tile")
        if isinstance(item_id, str) and is_item_id(item_id):
            seen.add(item_id)
        if isinstance(tile, str) and TILE_FORM.fullmatch(tile):
            tiles.add(tile)
        yield item


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What bounds one run: which look-back windows, by default those that are due; scenes to publish; seconds after
    which a scan of everything is left to the next run.
    """

    look_back: tuple[LookBack, ...] | None = None
    limit: int | None = None
    seconds: float | None = None


def watch(
    context: RunContext,
    areas: Mapping[str, Area],
    runner: Runner,
    observer: Observer | None = None,
    options: WatchOptions | None = None,
) -> Report:
    """Reconcile ``areas`` with what is published, once.

    A source that is out of reach costs its area this run, and is in the report's ``problems``.

    Raises:
        CloudmaskError: what no later run can mend: settings, credentials, a store that refuses us.
    """
    options = options or WatchOptions()
    started = time.monotonic()
    settings = context.settings
    budget = Budget(settings, settings.request_budget, options.limit)
    ingestion = Ingestion(context, runner, observer, budget=budget)
    withdrawals = Withdrawals(context, settings.withdraw_limit)
    problems = _Problems()

    def is_late() -> bool:
        return options.seconds is not None and time.monotonic() - started >= options.seconds

    def scan(name: str, *, whole: bool) -> None:
        area = (name, areas[name])
        AreaWatch(context, ingestion, withdrawals, area, is_late).scan(options.look_back, whole=whole)

    if _begin(context, ingestion, problems):
        _scan_areas(areas, scan, problems)
    return build_report(
        ingestion.outcomes,
        time.monotonic() - started,
        withdrawn=tuple(sorted(withdrawals.withdrawn)),
        deferred=ingestion.deferred,
        problems=tuple(problems.texts),
        transfer=context.read_transfer(),
    )


class _Problems:
    """What was out of reach of a run."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, name: str, error: CloudmaskError) -> None:
        """Note ``error`` where a later run may fare better, else let it end this one."""
        if not (error.retryable or isinstance(error, SourceError)):
            raise error
        logger.warning("%s: %s", name, error)
        self.texts.append(f"{name}: {error}")


def _begin(context: RunContext, ingestion: Ingestion, problems: _Problems) -> bool:
    """Try again what is due; whether what every area needs is in reach."""
    try:
        ingestion.begin(noted=list_states(context.store))
        retry_due_scenes(context, ingestion)
    except SourceError as error:
        problems.note("scenes to try again", error)
    except CloudmaskError as error:
        problems.note("this run", error)
        return False
    return True


def _scan_areas(areas: Iterable[str], scan: Callable[..., None], problems: _Problems) -> None:
    """What is new in each area, then each one's whole, which may use up all that a run may do, for days."""
    out_of_reach: set[str] = set()
    for whole, name in product((False, True), areas):
        if name in out_of_reach:
            continue
        try:
            scan(name, whole=whole)
        except SourceError as error:
            problems.note(f"area {name}", error)
            out_of_reach.add(name)
        except CloudmaskError as error:
            problems.note(f"area {name}", error)
            return


def run_directly(request: IngestRequest | WatchRequest, observer: Observer | None = None) -> Report:
    """The report of the job that ``request`` is."""
    context = RunContext.of(request)
    with open_runner(context.settings) as runner:
        if isinstance(request, WatchRequest):
            options = WatchOptions(request.look_back, request.limit, request.seconds)
            return watch(context, request.read_areas(), runner, observer, options)
        return ingest(context, request.read_query(), runner, observer, force=request.force)
