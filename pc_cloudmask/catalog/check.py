"""Check the published catalog for problems, and repair them.

A broken item is not deleted. A withdrawn marker takes it out of the catalog, and its document and files stay for a
grace period, as for an item that its source withdrew. The fingerprint is moved from the document into the marker, so
that ``ingest`` publishes the scene again, and a later check can restore the item if it turns out to be sound. A repair
may die between any two steps: the item is then found broken, or withdrawn, again. Whatever a repair takes out, restores
or links has a pending marker until the change feed records it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TypeVar

from pc_cloudmask.catalog.check_catalogs import (
    Checker,
    Children,
    Markers,
    YearCheck,
    YearTotals,
    check_collection,
    check_extent,
    check_parent,
    check_public_url,
    check_root,
    check_year,
    list_dead_probes,
    read_markers,
)
from pc_cloudmask.catalog.documents import merge_coverages
from pc_cloudmask.catalog.feed import Change, Feed
from pc_cloudmask.catalog.fields import CatalogContext, read_document
from pc_cloudmask.catalog.findings import (
    CheckReport,
    CouldNotRead,
    Finding,
    Problem,
    Tally,
    build_report,
    explain_error,
    is_there,
    list_objects,
    looking_at,
    read,
)
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    COLLECTION_KEY,
    ITEMS_PREFIX,
    PENDING_PREFIX,
    ItemKeys,
    YearKeys,
    pending_prefix,
)
from pc_cloudmask.catalog.parents import (
    ParentCatalog,
    collection_parent,
    collection_steps,
    parent_steps,
    root_steps,
    tell_stages,
    tile_parent,
    year_steps,
    zone_parent,
)
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import (
    Failure,
    StateKind,
    Steps,
    build_marker,
    find_state,
    record_failed,
    run_steps,
    write_marker,
)
from pc_cloudmask.catalog.versions import (
    change_steps,
    digest_item,
    is_current,
    link_steps,
    settle_steps,
    unlink_steps,
    withdraw_broken,
)
from pc_cloudmask.catalog.walk import YEAR_FORM, YearFolder, find_linked, group_year, group_years
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectStore, StoredObject
from stac_ext.cloudmask import FINGERPRINT_PROP

T = TypeVar("T")
#: How often a year with findings is checked again: a writer may have changed it between two reads.
_CONFIRMATIONS = 3
_WORKERS = 8
#: Passes of a repair. All but the last may repair; the first pass that repairs nothing determines what is left.
_LOOKS = 3
#: Broken items that one repair takes out of the catalog unless told to take out all; the same number as one run may
#: withdraw. More at once are more likely a fault of the store.
REMOVAL_LIMIT = 20
_ERROR_CLASS = "BrokenItem"
logger = logging.getLogger(__name__)


@dataclass
class Removals:
    """Broken items that a repair has taken out, up to ``limit`` (None: all), or not. Safe to share between threads."""

    limit: int | None = REMOVAL_LIMIT
    taken: int = 0
    refused: set[ItemKeys] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, keys: ItemKeys) -> bool:
        """Return True if this item may be taken out."""
        with self._lock:
            if self.limit is not None and self.taken >= self.limit:
                self.refused.add(keys)
                return False
            self.taken += 1
            return True


def repair_year(
    store: ObjectStore, context: CatalogContext, check: YearCheck, now: datetime, removals: Removals
) -> bool:
    """Take out broken items, restore and link sound ones, and remove what has expired or is of no use.

    Return whether the year then has a catalog: a year without items is not given one. A broken item is recorded as
    failed, so that ``retry`` or the next run publishes it again. What could not be read is left alone, and so is a year
    whose catalog or links are in doubt.
    """
    if check.is_in_doubt:
        return check.totals.has_catalog
    broken = [(check.keys(item_id), item) for item_id, item in check.broken.items()]
    taken = [(keys, item) for keys, item in broken if removals.take(keys)]
    changes = list[Change]()
    for keys, item in taken:
        # This comes first, because the next check does not report a withdrawn item that newer versions still link.
        run_steps(unlink_steps(store, context, keys, check.folder))
        logger.info("taking %s out of the catalog: %s", keys.item_id, item.reason)
        record_failed(store, keys.item_id, Failure(_ERROR_CLASS, item.reason, retryable=True), now)
        digest = withdraw_broken(store, keys, item.reason, item.digest, now)
        changes += [Change(keys, digest)] if digest else []
        run_steps(settle_steps(store, context, keys))
    changes += _mend_marks(store, context, check, now)
    has_catalog = check.totals.has_catalog or bool(check.folder.linked_ids)
    if has_catalog:
        run_steps(year_steps(store, context, check.folder.year_keys))
    for steps in chain.from_iterable(tell_stages(Feed(store, context, now), changes)):
        run_steps(steps)
    for item_id in check.withdrawn:
        _remove(store, context, check, check.keys(item_id))
    for key in check.orphans:
        if not _is_wanted_again(store, check, key):
            logger.info("removing %s: no item links it", key)
            store.delete_object(key)
    return has_catalog


def _mend_marks(store: ObjectStore, context: CatalogContext, check: YearCheck, now: datetime) -> list[Change]:
    """Restore sound items and correct the marks of newer versions; return the changes that link items."""
    changes: list[Change] = []
    for item_id, fingerprint in check.restored.items():
        _restore(store, check.keys(item_id), fingerprint)
    for key in check.wrong_marks:
        store.delete_object(key)
    for item_id in check.dangling:
        run_steps(link_steps(store, context, check.keys(item_id)))
    for keys in map(check.keys, (*check.unlinked, *check.restored)):
        stored = store.read_object(keys.item)
        if stored is not None:
            changes.append(Change(keys, digest_item(stored)))
            write_marker(store, build_marker(keys, changes[-1].digest, now))
        run_steps(settle_steps(store, context, keys))
    return changes


def _restore(store: ObjectStore, keys: ItemKeys, fingerprint: str | None) -> None:
    """Give a sound item its fingerprint back, so that settling restores it; forget its failure."""
    logger.info("restoring %s", keys.item_id)

    def restore(item: Item) -> Item:
        item["properties"].setdefault(FINGERPRINT_PROP, fingerprint)
        return item

    if fingerprint is not None:
        run_steps(change_steps(store, keys, restore))
    state = find_state(store, StateKind.FAILED, keys.item_id)
    if state is not None and state.error_class == _ERROR_CLASS:
        store.delete_object(state.key)


def _is_wanted_again(store: ObjectStore, check: YearCheck, key: str) -> bool:
    """Return True if a writer is putting that file again, or has done so since the year was listed."""
    item_id, _, name = key.removeprefix(check.folder.year_keys.prefix).partition("/")
    if _is_pending(store, item_id):
        return True
    item = store.read_object(check.keys(item_id).item)
    return item is None or name.encode() in item.body  # an item that is gone says nothing about its files


def _is_pending(store: ObjectStore, item_id: str) -> bool:
    """Return True if a marker says that the item is being published or withdrawn."""
    return any(True for _ in store.list_objects(pending_prefix(item_id)))


def _remove(store: ObjectStore, context: CatalogContext, check: YearCheck, keys: ItemKeys) -> None:
    """Remove an item that no catalog links: first newer versions' links to it, then the item, then its files."""
    if store.find_object(keys.withdrawn_marker) is None or _is_pending(store, keys.item_id):
        return  # published again in the meantime
    if is_current(read_document(store.read_object(keys.item))):
        return  # published again by a writer that died, or whose marker the listing lacks
    logger.info("removing %s", keys.item)
    run_steps(unlink_steps(store, context, keys, check.folder))
    store.delete_object(keys.item)
    again = group_year(keys.year_keys, store.list_objects(keys.prefix))
    folders = (each.folders[keys.item_id] for each in (check.folder, again) if keys.item_id in each.folders)
    for key in sorted({info.key for folder in folders for info in folder.objects.values()}):
        if key != keys.withdrawn_marker:
            store.delete_object(key)


@dataclass
class Look:
    """One pass over the catalog; without a ``publisher`` nothing is repaired.

    Years in which an earlier pass found nothing (``known``) are not read again while their listing is unchanged.
    Methods that check a subtree return whether it has a catalog, or None if that is unknown.
    """

    checker: Checker
    publisher: Publisher | None
    tiles: Executor
    removals: Removals
    known: Mapping[YearKeys, YearTotals]
    markers: Markers = field(default_factory=Markers)
    years: dict[YearKeys, YearTotals] = field(default_factory=dict)
    clean: dict[YearKeys, YearTotals] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    has_mended: bool = False

    def __post_init__(self) -> None:
        self._store, self._context, self._now = self.checker.store, self.checker.context, self.checker.now

    def run(self) -> None:
        """Check the markers, then the tree bottom-up: each catalog after everything it links."""
        self._check_markers()
        before = None
        with suppress(CouldNotRead):  # reported by the check of the collection
            before = read(self._store, COLLECTION_KEY)
        parent = collection_parent(self._store, self._context, None, None)
        names, is_listed = self._list_children(parent)
        zones = self._sort_children(parent, {name: self._check_zone(name) for name in names})
        if is_listed:
            self._check_collection(parent, zones, before)
        root = check_root(self._store, self._context, zones)
        self._settle(CATALOG_KEY, root, lambda: root_steps(self._store, self._context))
        for key in (COLLECTION_KEY, CATALOG_KEY):
            self._find_catalog(key)

    def _check_markers(self) -> None:
        """Replay and remove the markers of dead writers; remember those of live writers."""
        self.markers = read_markers(self._store, self._now)
        self.tally.report(*self.markers.findings)
        stale = self.markers.stale
        recovered = self.publisher and self._mend(PENDING_PREFIX, self.publisher.recover, has_to=bool(stale))
        if recovered is not None:
            for key in (*stale, *list_dead_probes(self._store, self._now)):
                self._mend(key, partial(self._store.delete_object, key), has_to=False)
            self.markers = read_markers(self._store, self._now)
        self.tally.add(pending=len(self.markers.pending))

    def _check_collection(self, parent: ParentCatalog, zones: Children, before: StoredObject | None) -> None:
        years = self.years.values()
        coverage = merge_coverages(each.coverage for each in years)
        allowed = merge_coverages(each.allowed for each in years)
        is_unread = self.tally.problems[Problem.COULD_NOT_READ] > 0
        # The collection may also cover masks that have been replaced, as long as their files are kept.
        is_complete = all(each.is_coverage_known and not each.awaiting_removal for each in years)
        is_known = bool(years) and not is_unread and is_complete

        def find() -> Iterator[Finding]:
            yield from check_collection(self._store, self._context, zones, coverage)
            if is_known:
                yield from check_extent(before, allowed)

        def mend() -> Steps:
            names = zones.present | (find_linked(self._store, parent.key) & zones.unsure)
            wanted, known = (allowed, before) if is_known else (coverage, None)
            return collection_steps(self._store, self._context, names, wanted, rebuild=True, before=known)

        self._settle(COLLECTION_KEY, find(), mend)

    def _check_zone(self, zone: str) -> bool | None:
        parent = zone_parent(self._context, zone)
        names, is_listed = self._list_children(parent)
        tiles = dict(zip(names, self.tiles.map(self._check_tile, names), strict=True))
        return self._check_parent(parent, tiles) if is_listed else None

    def _check_tile(self, tile: str) -> bool | None:
        """Check the years that one listing shows, then list each year missing from it separately."""
        parent = tile_parent(self._context, tile)
        years: dict[str, bool | None] = {}
        with suppress(CouldNotRead):
            for key, folder in group_years(list_objects(self._store, parent.folder)):
                if folder is not None:
                    years[key.removeprefix(parent.folder)] = self._check_year(folder)
                elif key != parent.key:
                    self._report_unknown_object(key)
        names, is_listed = self._list_children(parent)
        for name in names:
            if name not in years:
                years[name] = self._list_and_check(YearKeys(tile, int(name)))
        return self._check_parent(parent, years) if is_listed else None

    def _list_and_check(self, year_keys: YearKeys) -> bool | None:
        objects = list_objects(self._store, year_keys.prefix)
        return self._ask(lambda: self._check_year(group_year(year_keys, objects)))

    def _list_children(self, parent: ParentCatalog) -> tuple[list[str], bool]:
        """Return the names of the children that are linked or listed, and whether the listing succeeded."""
        listed, linked, findings = set[str](), set[str](), list[Finding]()
        try:
            with looking_at(parent.folder):
                listed.update(self._store.list_folders(parent.folder))
        except CouldNotRead as error:
            findings.append(error.finding)
        try:
            with looking_at(parent.key):
                linked = find_linked(self._store, parent.key)
        except CouldNotRead as error:  # the check of the catalog reports it, if the listing succeeded
            findings += [error.finding] if findings else []
        self.tally.report(*findings)
        if parent.form is not YEAR_FORM:  # below a tile, the listing of its years finds them
            for name in sorted(listed):
                if not parent.form.fullmatch(name) and f"{parent.folder}{name}/" != ITEMS_PREFIX:
                    self._report_unknown_object(f"{parent.folder}{name}/")
        return sorted(filter(parent.form.fullmatch, listed | linked)), not findings

    def _sort_children(self, parent: ParentCatalog, children: Mapping[str, bool | None]) -> Children:
        live, folder = (keys.item for keys in self.markers.live), parent.folder
        busy = {key.removeprefix(folder).split("/")[0] for key in live if key.startswith(folder)}
        unknown = {name for name, has_catalog in children.items() if has_catalog is None}
        present = (name for name, has_catalog in children.items() if has_catalog)
        return Children(frozenset(present), frozenset(busy | unknown))

    def _check_year(self, folder: YearFolder) -> bool | None:
        year_keys = folder.year_keys
        known = self.known.get(year_keys)
        if known is not None and known.listing == folder.hash_listing():
            self._keep(year_keys, known)
            self.clean[year_keys] = known
            return known.has_catalog
        checker = replace(self.checker, pending=self.markers.pending)
        check = self._confirm(check_year(checker, folder))
        self.tally.report(*check.findings)
        self._keep(year_keys, check.totals)
        if not check.findings and not check.withdrawn:
            self.clean[year_keys] = check.totals
        if check.is_in_doubt:
            return None
        if not check.needs_repair or self.publisher is None:
            return check.totals.has_catalog
        mend = partial(repair_year, self._store, self._context, check, self._now, self.removals)
        return self._mend(year_keys.catalog, mend)

    def _confirm(self, check: YearCheck) -> YearCheck:
        """Check again where something is wrong: a writer may have changed it between two reads."""
        year_keys = check.folder.year_keys
        for _ in range(_CONFIRMATIONS):
            if all(finding.problem is Problem.COULD_NOT_READ for finding in check.findings):
                break
            checker = replace(self.checker, pending=read_markers(self._store, self._now).pending)
            check = check_year(checker, group_year(year_keys, list_objects(self._store, year_keys.prefix)))
        return check

    def _keep(self, year_keys: YearKeys, totals: YearTotals) -> None:
        self.years[year_keys] = totals
        self.tally.add(items=totals.items, files=totals.files, catalogs=int(totals.has_catalog))
        self.tally.add(awaiting_removal=totals.awaiting_removal)

    def _settle(self, key: str, findings: Iterable[Finding], mend: Callable[[], Steps]) -> bool:
        """Report the findings, and repair them if requested; return whether everything could be read."""
        has_found = False
        try:
            for finding in findings:  # findings before an error count
                self.tally.report(finding)
                has_found = True
        except CouldNotRead as error:
            self.tally.report(error.finding)
            return False
        if has_found and self.publisher is not None:
            self._mend(key, lambda: run_steps(mend()))
        return True

    def _mend(self, key: str, mend: Callable[[], T], *, has_to: bool = True) -> T | None:
        """Repair something and return the result; None if that failed, which does not stop other repairs."""
        try:
            mended = mend()
        except Exception as error:  # a store may raise anything
            self.tally.report(Finding(Problem.COULD_NOT_REPAIR, key, explain_error(key, error)))
            return None
        self.has_mended |= has_to or bool(mended)
        return mended

    def _check_parent(self, parent: ParentCatalog, found: Mapping[str, bool | None]) -> bool | None:
        children = self._sort_children(parent, found)

        def mend() -> Steps:
            own = children.present | (find_linked(self._store, parent.key) & children.unsure)
            return parent_steps(self._store, parent, own, rebuild=True)

        is_read = self._settle(parent.key, check_parent(self._store, parent, children), mend)
        return self._find_catalog(parent.key) if is_read else None

    def _find_catalog(self, key: str) -> bool | None:
        """Return whether the catalog exists, and count it if so."""
        found = self._ask(partial(is_there, self._store, key))
        self.tally.add(catalogs=bool(found))
        return found

    def _ask(self, ask: Callable[[], bool | None]) -> bool | None:
        """Return the answer; report and return None if it could not be read."""
        try:
            return ask()
        except CouldNotRead as error:
            self.tally.report(error.finding)
            return None

    def _report_unknown_object(self, key: str) -> None:
        self.tally.report(Finding(Problem.UNKNOWN_OBJECT, key, "is no part of this catalog"))


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How far a check goes: at most ``limit`` broken items are taken out (None: all).

    A ``deep`` check validates every raster with rio-cogeo and counts the pixels of every mask.
    """

    limit: int | None = REMOVAL_LIMIT
    deep: bool = False


def check_catalog(
    store: ObjectStore,
    context: CatalogContext,
    *,
    repair: bool,
    now: datetime,
    single_writer: bool = False,
    options: CheckOptions = CheckOptions(),
) -> CheckReport:
    """Check every published object once; with ``repair``, repair what is wrong and check again.

    Each worker holds one year in memory at a time. Writers may publish in the meantime: what their markers announce is
    not a problem, and apparent problems are checked again. Nothing related to what could not be read is changed.

    Raises:
        SettingsError: the catalog was published for another public URL, so everything in it would differ.
        StoreUnavailable: the store did not answer at all; it is safe to try again.
        StoreRefused: the store cannot be listed, or a repair is requested where several writers are not safe.
    """
    check_public_url(store, context)
    publisher = Publisher(store, context, now, single_writer=single_writer) if repair else None
    if publisher is not None:
        publisher.check_writers()
    removals, looks = Removals(options.limit), list[Look]()
    with ThreadPoolExecutor(_WORKERS) as items, ThreadPoolExecutor(_WORKERS) as tiles:
        checker = Checker(store, context, now, map_items=items.map, deep=options.deep)
        try:
            while not looks or (looks[-1].has_mended and len(looks) < _LOOKS):
                mender = publisher if len(looks) < _LOOKS - 1 else None
                looks.append(Look(checker, mender, tiles, removals, looks[-1].clean if looks else {}))
                looks[-1].run()
        finally:
            # Tasks queued by an interrupted check would take minutes on a slow store.
            tiles.shutdown(wait=False, cancel_futures=True)
            items.shutdown(wait=False, cancel_futures=True)
    first, last = looks[0].tally, looks[-1].tally
    return build_report(
        first, last, repaired=repair, unlinked=removals.taken, held_back=len(removals.refused)
    )
