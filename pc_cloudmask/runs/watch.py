"""Watch areas for years: publish new and late scenes, update changed ones, and withdraw those that are gone.

``area_state.py`` decides what is due and why, ``Withdrawals`` what is gone. ``run_directly`` runs a watch or an
ingestion in this process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain, product

from pc_cloudmask.catalog.export import update_tile_index
from pc_cloudmask.catalog.layout import ItemKeys, YearKeys, find_day
from pc_cloudmask.catalog.states import clear_state, list_states
from pc_cloudmask.catalog.versions import read_scene_prefix
from pc_cloudmask.catalog.walk import YearListing, YearListings
from pc_cloudmask.errors import CloudmaskError, SourceError, SourceMistaken
from pc_cloudmask.runs.area_state import (
    AGREEING_SCANS,
    AreaState,
    LookBack,
    MissingScan,
    Scan,
    count_missing_scans,
    find_due,
    list_scans,
    read_area_state,
    write_area_state,
)
from pc_cloudmask.runs.budget import Budget
from pc_cloudmask.runs.context import RunContext, check_reachable
from pc_cloudmask.runs.ingest import Ingestion, batches, ingest
from pc_cloudmask.runs.report import Observer, Report
from pc_cloudmask.runs.request import IngestRequest, WatchRequest
from pc_cloudmask.runs.runners import Runner, open_runner
from pc_cloudmask.scene.query import Interval, SceneQuery, may_hold_day, parse_instant
from pc_cloudmask.scene.scene import TILE_FORM, is_item_id
from pc_cloudmask.settings import FIRST_IMAGE, Area
from pc_cloudmask.source.fields import Item, find_property

#: Scenes that the source is asked for in one request, in addition to the control item.
IDS_AT_ONCE = 99
#: Scenes that one scan confirms one by one, after a request for many did not return them.
CONFIRMED_AT_ONCE = 100
logger = logging.getLogger(__name__)


def run_directly(
    context: RunContext, request: IngestRequest | WatchRequest, observer: Observer | None = None
) -> Report:
    """Run the job that ``request`` asks for in this process, without Prefect, and return its report."""
    with open_runner(context.settings) as runner:
        if isinstance(request, WatchRequest):
            return watch(context, request, runner, observer)
        return ingest(context, request, runner, observer)


def watch(
    context: RunContext, request: WatchRequest, runner: Runner, observer: Observer | None = None
) -> Report:
    """Reconcile the areas of ``request`` with what is published, once.

    An area whose source cannot be reached is skipped in this run, and reported in ``problems``. An error that no later
    run can overcome is raised: settings, credentials, a store that refuses us, ``SourceMistaken`` if no answer came
    from a STAC API.
    """
    started = time.monotonic()
    settings, areas = context.settings, request.read_areas(context.settings)
    check_reachable(context.source, SceneQuery(), settings, request.items)
    budget = Budget(settings, context.meter, settings.request_budget, request.limit)
    ingestion = Ingestion(context, runner, observer, budget=budget)
    run = _WatchRun(context, request, areas, ingestion, started)
    # A limited budget is spent area by area; otherwise all that is new is paired together.
    is_shared = len(areas) > 1 and not budget.is_limited
    if run.begin() and (not is_shared or run.publish_together()):
        run.scan_areas()
    run.check_answers()
    return ingestion.build_report(
        started, withdrawn=tuple(sorted(run.withdrawals.withdrawn)), problems=tuple(run.problems)
    )


class _WatchRun:
    """One run over all areas; ``problems`` tell what could not be reached."""

    def __init__(
        self,
        context: RunContext,
        request: WatchRequest,
        areas: Mapping[str, Area],
        ingestion: Ingestion,
        started: float,
    ) -> None:
        self._context = context
        self._request = request
        self._areas = areas
        self._ingestion = ingestion
        self._started = started
        self._opened: dict[str, AreaWatch] = {}
        self._errors: list[CloudmaskError] = []
        self.problems: list[str] = []
        self.withdrawals = Withdrawals(context)

    def begin(self) -> bool:
        """Retry what is due; return True if what every area needs can be reached."""
        try:
            self._ingestion.begin(noted=list_states(self._context.store))
            self._ingestion.retry_due()
        except SourceError as error:
            self._note("scenes to try again", error)
        except CloudmaskError as error:
            self._note("this run", error)
            return False
        return True

    def publish_together(self) -> bool:
        """Publish what is new in all areas, sharing pairing requests between them; return True on success."""
        due = (self._list_due(name, everything=False) for name in self._areas)
        try:
            self._ingestion.publish(chain.from_iterable(area.find_items(scans) for area, scans in due))
        except CloudmaskError as error:
            self._note("what is new", error)
            return False
        return True

    def scan_areas(self) -> None:
        """Scan what is new in each area, then everything in each, which may use up the budget of the run."""
        out_of_reach: set[str] = set()
        for everything, name in product((False, True), self._areas):
            if name in out_of_reach:
                continue
            try:
                self._scan(*self._list_due(name, everything=everything))
            except SourceError as error:
                self._note(f"area {name}", error)
                out_of_reach.add(name)
            except CloudmaskError as error:
                self._note(f"area {name}", error)
                return

    def check_answers(self) -> None:
        """Raise SourceMistaken if no area was answered by a STAC API: its URL is wrong, or it is blocked."""
        mistaken = [error for error in self._errors if isinstance(error, SourceMistaken)]
        if len(mistaken) == len(self._errors) >= len(self._areas):
            raise mistaken[0]

    def _list_due(self, name: str, *, everything: bool) -> tuple[AreaWatch, Iterator[Scan]]:
        """Return the area and the scans due there: the full one, or all the others.

        An area is opened once for what is new, and once more for a full scan.
        """
        context = self._context
        if everything or name not in self._opened:
            self._opened[name] = AreaWatch(context, name, self._areas[name])
        area, days = self._opened[name], context.settings.look_back_days
        return area, chain.from_iterable(
            list_scans(area.state, each, area.start, context.now, days)
            for each in self._request.look_back or find_due(area.state, context.now)
            if (each is LookBack.FULL) is everything
        )

    def _scan(self, area: AreaWatch, scans: Iterable[Scan]) -> None:
        """Publish what is new in ``scans`` and withdraw what is gone, until a budget or the time is used up."""
        limit = self._request.seconds
        for scan in scans:
            is_late = limit is not None and time.monotonic() - self._started >= limit
            if scan.look_back is LookBack.FULL and is_late:
                logger.info("the scan of everything goes on at %s in the next run", scan.left["full_next"])
                return
            seen = area.publish(scan.interval, self._ingestion)
            if scan.look_back is LookBack.HOT:
                continue
            if not self._ingestion.is_complete:
                area.note(scan.left)
                return
            missing_scans = self.withdrawals.reconcile(area.state, scan.interval, seen)
            area.note({**scan.done, "missing_scans": missing_scans})

    def _note(self, name: str, error: CloudmaskError) -> None:
        """Record ``error`` if a later run may succeed, else let it end this one."""
        if error.ends_run or not (error.retryable or isinstance(error, SourceError)):
            raise error
        logger.warning("%s: %s", name, error)
        self.problems.append(f"{name}: {error}")
        self._errors.append(error)


class AreaWatch:
    """One area, and the state of its scans: each complete one is recorded in the store at once."""

    def __init__(self, context: RunContext, name: str, area: Area) -> None:
        self._store = context.store
        self._source = context.source
        self._name = name
        self._area = area
        self._found: dict[Interval, frozenset[str] | SourceError] = {}
        self.start = area.start
        self.state = read_area_state(self._store, name, area.digest)

    def find_items(self, scans: Iterable[Scan]) -> Iterator[Item]:
        """Yield the items that the source has in ``scans``; ``publish`` then uses the result or raises the error."""
        for each in scans:
            seen: set[str] = set()
            try:
                yield from self._list_items(each.interval, seen)
                self._found[each.interval] = frozenset(seen)
            except SourceError as error:
                self._found[each.interval] = error

    def publish(self, interval: Interval, ingestion: Ingestion) -> frozenset[str]:
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
        """Yield what the source has within ``interval``; add the well-formed ids to ``seen``, and note the tiles."""
        tiles = {*self._area.tiles, *self.state.tiles}
        query = self._area.read_query(interval)
        logger.info("area %s: looking at %s", self._name, query.datetime)
        for item in self._source.find_items(query):
            item_id, tile = item.get("id"), find_property(item, "s2:mgrs_tile")
            if isinstance(item_id, str) and is_item_id(item_id):
                seen.add(item_id)
            if isinstance(tile, str) and TILE_FORM.fullmatch(tile):
                tiles.add(tile)
            yield item
        self.state = self.state.model_copy(update={"tiles": frozenset(tiles)})

    def note(self, changes: Mapping[str, object]) -> None:
        """Record what a scan changed in the state."""
        if changes:
            self.state = self.state.model_copy(update=changes)
            write_area_state(self._store, self._name, self.state)


class Withdrawals:
    """The withdrawals of one run, at most ``CLOUDMASK_WITHDRAW_LIMIT``.

    A scene is withdrawn once several complete scans agree that the source does not have it. Then it is requested by
    name, first alone, then together with a control item: a scene that this run has seen in the source. Only an empty
    answer to the first and exactly the control item in the second count, because an answer truncated to no items or to
    one cannot be both.
    """

    def __init__(self, context: RunContext) -> None:
        self._source = context.source
        self._publisher = context.publisher
        self._store = context.store
        self._settings = context.settings
        self._now = context.now
        self._listings = YearListings(context.store)
        self._left = context.settings.withdraw_limit
        self._control: str | None = None
        self.withdrawn: list[str] = []

    def reconcile(self, state: AreaState, interval: Interval, seen: frozenset[str]) -> dict[str, MissingScan]:
        """Withdraw what is certain after the complete scan of ``interval`` that saw ``seen``.

        Return the scenes of the area that scans have missed by now, without those withdrawn. An error of source or
        store is raised, and it is safe to try again.
        """
        # If the source has nothing left in the interval, a scene that another scan saw is used.
        self._control = min(seen, default=self._control)
        listings = list(self._listings.read(state.tiles, _list_years(interval, self._now)))
        unfinished = _find_unfinished(listings, state)
        suspects = [
            keys
            for keys in _find_unseen(listings, interval, seen)
            if _is_of_source(self._publisher.find_published(keys), self._settings.collection, interval)
        ]
        missing, present = self._ask_source(suspects)
        scans = count_missing_scans(
            state.missing_scans,
            {keys.item_id: (keys.year_keys.tile, keys.year_keys.year) for keys in missing},
            seen | present | _find_superseded(listings, state),
            self._now,
        )
        replaced = {read_scene_prefix(item_id) for item_id in seen}
        # A scene that was made again gives way once the new one is published.
        certain = [
            keys
            for keys in missing
            if scans[keys.item_id].is_certain and read_scene_prefix(keys.item_id) not in replaced
        ]
        chosen = self._choose(certain)
        self._withdraw([*unfinished, *chosen])
        self.withdrawn += [keys.item_id for keys in chosen]
        done = {keys.item_id for keys in (*unfinished, *chosen)}
        return {item_id: each for item_id, each in scans.items() if item_id not in done}

    def _ask_source(self, suspects: Sequence[ItemKeys]) -> tuple[list[ItemKeys], frozenset[str]]:
        """Return the ``suspects`` that the source says it does not have, and the ids that it has after all."""
        missing: list[ItemKeys] = []
        present: set[str] = set()
        for asked in batches(suspects, IDS_AT_ONCE) if self._control else ():
            answer = self._ask(*(keys.item_id for keys in asked), self._control)
            if self._control not in answer:
                logger.warning("the source does not answer for scenes it has: nothing is withdrawn")
                continue
            present |= answer
            missing += [keys for keys in asked if keys.item_id not in answer]
        return self._confirm(missing, present), frozenset(present)

    def _confirm(self, missing: Sequence[ItemKeys], present: set[str]) -> list[ItemKeys]:
        """Return those of ``missing`` that the source does not return alone either; add those it does to ``present``.

        Only the first ``CONFIRMED_AT_ONCE`` are requested; the others are left to later scans.
        """
        confirmed = []
        for keys in missing[:CONFIRMED_AT_ONCE]:
            alone, with_control = self._ask(keys.item_id), self._ask(keys.item_id, self._control)
            if not alone and with_control == {self._control}:
                confirmed.append(keys)
            present |= alone | with_control
        return confirmed

    def _ask(self, *ids: str | None) -> set[str]:
        query = SceneQuery(ids=tuple(filter(None, ids)))
        return {str(item.get("id")) for item in self._source.find_items(query)}

    def _choose(self, certain: list[ItemKeys]) -> list[ItemKeys]:
        """Return the first of ``certain`` that this run may still withdraw."""
        if len(certain) > self._left:
            logger.warning(
                "the source lacks %d published scenes; %d are withdrawn in this run, the others in the next "
                "(CLOUDMASK_WITHDRAW_LIMIT)",
                len(certain),
                self._left,
            )
        chosen = certain[: self._left]
        self._left -= len(chosen)
        return chosen

    def _withdraw(self, items: list[ItemKeys]) -> None:
        if items:
            self._publisher.withdraw(items, f"{AGREEING_SCANS} scans of the source did not find it")
            for keys in items:
                clear_state(self._store, keys.item_id)
            if self._settings.mirror:
                update_tile_index(self._store, self._publisher, items)
            logger.info("withdrawn: %s", ", ".join(keys.item_id for keys in items))
            self._listings.forget(keys.year_keys for keys in items)


Listings = Sequence[tuple[YearKeys, YearListing]]


def _find_unfinished(listings: Listings, state: AreaState) -> list[ItemKeys]:
    """Return items with a withdrawn marker whose run died before it had taken them out of their catalog."""
    return [
        ItemKeys(year_keys, item_id)
        for year_keys, listing in listings
        for item_id in sorted(listing.withdrawn & state.missing_scans.keys())
    ]


def _find_superseded(listings: Listings, state: AreaState) -> frozenset[str]:
    """Return scenes that were missing and have since given way to newer versions."""
    years = {(keys.tile, keys.year): listing.linked | listing.withdrawn for keys, listing in listings}
    return frozenset(
        item_id
        for item_id, scan in state.missing_scans.items()
        if item_id not in years.get((scan.tile, scan.year), {item_id})
    )


def _find_unseen(listings: Listings, interval: Interval, seen: frozenset[str]) -> list[ItemKeys]:
    """Return the published items of the interval's days that the scan did not see, sorted by id."""
    unseen = (
        ItemKeys(year_keys, item_id)
        for year_keys, listing in listings
        for item_id in listing.linked - seen
        if may_hold_day(interval, find_day(item_id))
    )
    return sorted(unseen, key=lambda keys: keys.item_id)


def _is_of_source(item: Item | None, collection: str, interval: Interval) -> bool:
    """Return True if the published item was made from an item of ``collection`` within ``interval``."""
    if item is None:
        return False
    links: Iterable[Item] = item.get("links", ())
    origins = [str(link.get("href")) for link in links if link.get("rel") == "derived_from"]
    try:
        taken = parse_instant(item["properties"]["datetime"])
    except (LookupError, TypeError, ValueError):
        return False
    start, end = interval
    inside = (start is None or start <= taken) and (end is None or taken <= end)
    return inside and any(f"/collections/{collection}/items/" in origin for origin in origins)


def _list_years(interval: Interval, now: datetime) -> range:
    start, end = interval
    first = start.year if start else FIRST_IMAGE.year
    return range(first, max(first, (end or now + timedelta(days=1)).year) + 1)
