"""Saying what is wrong with the published catalog, and mending it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import TypeVar

from pc_cloudmask.catalog.check_item import DecodeMask
from pc_cloudmask.catalog.check_parents import (
    Markers,
    check_collection,
    check_extent,
    check_parent,
    find_linked,
    read_markers,
)
from pc_cloudmask.catalog.check_year import Checker, Scope, YearCheck, check_year
from pc_cloudmask.catalog.coverage import Coverage
from pc_cloudmask.catalog.documents import build_root_catalog
from pc_cloudmask.catalog.fields import CatalogContext, decode_document, encode_document, find_public_url
from pc_cloudmask.catalog.findings import (
    CheckReport,
    CouldNotRead,
    Finding,
    Problem,
    Tally,
    build_report,
    explain_error,
    list_objects,
    looking_at,
    read,
)
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, PENDING_PREFIX, YearKeys
from pc_cloudmask.catalog.parents import (
    YEAR_FORM,
    ZONE_FORM,
    ParentCatalog,
    collection_parent,
    merge_coverages,
    parent_steps,
    root_steps,
    tile_parent,
    zone_parent,
)
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.repair import REMOVAL_LIMIT, Removals, collection_repair_steps, repair_year
from pc_cloudmask.catalog.steps import LEASE, Steps, run_steps
from pc_cloudmask.catalog.year import YearFolder, group_year
from pc_cloudmask.errors import CloudmaskError, InvalidField, SettingsError
from pc_cloudmask.scene.ids import check_tile
from pc_cloudmask.storage.store import PROBE_PREFIX, ObjectInfo, ObjectStore, StoredObject

#: Times a year with findings is looked at again: a writer may have been at it between two readings.
_CONFIRMATIONS = 3
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SubtreeCheck:
    """What a year, tile or zone came to: its name, and whether it has a catalog; None where nobody knows."""

    name: str
    has_catalog: bool | None


@dataclass(frozen=True, slots=True)
class YearResult:
    """What one year came to; ``listing`` tells whether a later look may take it for the same."""

    listing: int
    has_catalog: bool
    items: int
    files: int
    awaiting_removal: int
    coverage: Coverage | None
    allowed: Coverage | None
    is_coverage_known: bool


class Look:
    """One look at everything; without a ``publisher`` nothing is mended.

    Years in which an earlier look found nothing, ``clean``, are not read again while their listing is
    the same.
    """

    def __init__(
        self,
        checker: Checker,
        now: datetime,
        publisher: Publisher | None,
        tiles: Executor,
        removals: Removals,
        clean: Mapping[YearKeys, YearResult],
    ) -> None:
        self._checker = checker
        self._store = checker.store
        self._context = checker.context
        self._now = now
        self._publisher = publisher
        self._tiles = tiles
        self._removals = removals
        self._known = clean
        self._markers = Markers()
        self._results: dict[YearKeys, YearResult] = {}
        self.clean: dict[YearKeys, YearResult] = {}
        self.tally = Tally()
        self.has_mended = False
        self._is_listed = True

    @property
    def pending(self) -> int:
        """Items that living writers are publishing."""
        return len(self._markers.pending)

    def run(self) -> None:
        self._check_markers()
        before = _collect_read(self._store, COLLECTION_KEY)
        zones = [self._check_zone(name) for name in self._list_zones()]
        if self._is_listed:
            self._check_collection(zones, before)
        self._check_root(zones)

    def _check_collection(self, zones: list[SubtreeCheck], before: StoredObject | None) -> None:
        linked, unsure = self._sort_children(zones, lambda year_keys: year_keys.zone)
        coverage = _merge(each.coverage for each in self._results.values())
        allowed = _merge(each.allowed for each in self._results.values())
        results = self._results.values()
        is_known = bool(results) and not self.tally.unread and all(each.is_coverage_known for each in results)

        def find() -> Iterator[Finding]:
            yield from check_collection(self._store, self._context, linked, unsure, coverage)
            if is_known:
                yield from check_extent(before, allowed)

        def mend() -> Steps:
            parent = collection_parent(self._store, self._context, None, None)
            names = linked | (find_linked(self._store, parent) & unsure)
            wanted, known = (allowed, before) if is_known else (coverage, None)
            return collection_repair_steps(self._store, self._context, set(names), wanted, known)

        self._settle(COLLECTION_KEY, find(), mend)

    def _check_root(self, zones: list[SubtreeCheck]) -> None:
        linked, unsure = self._sort_children(zones, lambda year_keys: year_keys.zone)

        def find() -> Iterator[Finding]:
            stored = read(self._store, CATALOG_KEY)
            if stored is None:
                if linked - unsure:
                    yield Finding(Problem.MISSING_CATALOG, CATALOG_KEY, "the collection is not linked")
            elif stored.body != encode_document(build_root_catalog(self._context)):
                yield Finding(Problem.STALE_CATALOG, CATALOG_KEY, "is not what this program writes")

        self._settle(CATALOG_KEY, find(), lambda: root_steps(self._store, self._context))
        for key in (COLLECTION_KEY, CATALOG_KEY):
            self._find_catalog(key)

    def _check_markers(self) -> None:
        """Replay and drop the markers of dead writers; remember those of living ones."""
        self._markers = read_markers(self._store, self._now)
        self.tally.report(self._markers.findings)
        if self._publisher is None:
            return
        stale = self._markers.stale
        if self._mend(PENDING_PREFIX, self._publisher.recover, has_to=bool(stale)):
            for key in (*stale, *self._find_dead_probes()):
                self._mend(key, partial(self._store.delete_object, key), has_to=False)
            self._markers = read_markers(self._store, self._now)

    def _find_dead_probes(self) -> list[str]:
        """Keys of what killed probes left; a probe takes seconds, a lease is long enough for any."""
        return [
            info.key
            for info in self._store.list_objects(PROBE_PREFIX)
            if info.modified is not None and info.modified + LEASE <= self._now
        ]

    def _list_zones(self) -> Iterator[str]:
        parent = collection_parent(self._store, self._context, None, None)
        names, self._is_listed = self._list_children(parent)
        for name in sorted(names):
            if ZONE_FORM.fullmatch(name):
                yield name
            elif name != "items":
                self._report_unknown_object(f"{COLLECTION_ID}/{name}/")

    def _list_children(self, parent: ParentCatalog) -> tuple[list[str], bool]:
        """Names of the folders beside the catalog, and whether it could be found out.

        Where they cannot be listed, those that it links are looked at one by one.
        """
        try:
            with looking_at(parent.folder):
                return list(self._store.list_folders(parent.folder)), True
        except CouldNotRead as error:
            self.tally.report([error.finding])
        try:
            with looking_at(parent.key):
                return sorted(find_linked(self._store, parent)), False
        except CouldNotRead as error:
            self.tally.report([error.finding])
        return [], False

    def _check_zone(self, zone: str) -> SubtreeCheck:
        parent = zone_parent(self._context, zone)
        names, is_listed = self._list_children(parent)
        tiles = list(_map_bounded(self._tiles, partial(self._check_tile, zone), names))
        if not is_listed:
            return SubtreeCheck(zone, None)
        linked, unsure = self._sort_children(tiles, lambda year_keys: year_keys.tile)
        return self._settle_parent(zone, parent, linked, unsure)

    def _check_tile(self, zone: str, tile: str) -> SubtreeCheck:
        prefix = f"{COLLECTION_ID}/{zone}/{tile}/"
        if not _is_tile(tile, zone):
            self._report_unknown_object(prefix)
            return SubtreeCheck(tile, False)
        parent = tile_parent(self._context, tile)
        try:
            checked = [self._check_year(folder) for folder in self._list_years(tile, prefix)]
        except CouldNotRead:
            return self._check_years(parent, tile)
        years, unsure = self._sort_children(
            checked, lambda year_keys: f"{year_keys.year:04d}" if year_keys.tile == tile else ""
        )
        return self._settle_parent(tile, parent, years, unsure)

    def _check_years(self, parent: ParentCatalog, tile: str) -> SubtreeCheck:
        """Look at the years of a tile that cannot be listed, one by one; some may have been looked at."""
        names, _ = self._list_children(parent)
        for year_keys in (YearKeys(tile, int(name)) for name in names if YEAR_FORM.fullmatch(name)):
            try:
                if year_keys not in self._results:
                    self._check_year(group_year(year_keys, list_objects(self._store, year_keys.prefix)))
            except CouldNotRead as error:
                self.tally.report([error.finding])
        return SubtreeCheck(tile, None)

    def _sort_children(
        self, children: Iterable[SubtreeCheck], name_of: Callable[[YearKeys], str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Names of those with a catalog, and of those that may be linked or not."""
        children = list(children)
        busy = {name_of(keys.year_keys) for keys in self._markers.live}
        unknown = {child.name for child in children if child.has_catalog is None}
        return frozenset(child.name for child in children if child.has_catalog), frozenset(busy | unknown)

    def _list_years(self, tile: str, prefix: str) -> Iterator[YearFolder]:
        """The tile's years from one listing, one at a time."""

        def year_of(info: ObjectInfo) -> str:
            return info.key.removeprefix(prefix).split("/")[0]

        for year, objects in groupby(list_objects(self._store, prefix), year_of):
            if YEAR_FORM.fullmatch(year):
                yield group_year(YearKeys(tile, int(year)), objects)
            elif year != "catalog.json":
                self._report_unknown_object(f"{prefix}{year}")

    def _check_year(self, folder: YearFolder) -> SubtreeCheck:
        year_keys = folder.year_keys
        name = f"{year_keys.year:04d}"
        known = self._known.get(year_keys)
        if known is not None and known.listing == _hash_listing(folder):
            self._keep(year_keys, known)
            self.clean[year_keys] = known
            return SubtreeCheck(name, known.has_catalog)
        scope = Scope(self._now, self._markers.pending)
        check = self._confirm(check_year(self._checker, folder, scope))
        self.tally.report(check.findings)
        result = YearResult(
            _hash_listing(check.folder),
            check.has_catalog,
            check.items,
            check.files,
            check.awaiting_removal,
            check.coverage,
            check.allowed,
            check.is_coverage_known,
        )
        self._keep(year_keys, result)
        if not check.findings and not check.withdrawn:
            self.clean[year_keys] = result
        has_catalog: bool | None = None if check.is_in_doubt else check.has_catalog
        if check.needs_repair and not check.is_in_doubt:

            def mend() -> None:
                nonlocal has_catalog
                has_catalog = repair_year(self._store, self._context, check, self._now, self._removals)

            if self._publisher is not None and not self._mend(year_keys.catalog, mend):
                has_catalog = None
        return SubtreeCheck(name, has_catalog)

    def _confirm(self, check: YearCheck) -> YearCheck:
        """Look again where something is wrong: a writer may have been at it between two readings."""
        for _ in range(_CONFIRMATIONS):
            if all(finding.problem is Problem.COULD_NOT_READ for finding in check.findings):
                break
            scope = Scope(self._now, read_markers(self._store, self._now).pending)
            folder = group_year(
                check.folder.year_keys, list_objects(self._store, check.folder.year_keys.prefix)
            )
            check = check_year(self._checker, folder, scope)
        return check

    def _keep(self, year_keys: YearKeys, result: YearResult) -> None:
        self._results[year_keys] = result
        self.tally.add(items=result.items, files=result.files, catalogs=int(result.has_catalog))
        self.tally.add(awaiting_removal=result.awaiting_removal)

    def _settle(self, key: str, findings: Iterable[Finding], mend: Callable[[], Steps]) -> bool:
        """Report the findings, and mend them where that is asked for; whether all could be looked at."""
        found: list[Finding] = []
        try:
            for finding in findings:
                found.append(finding)
        except CouldNotRead as error:
            self.tally.report([*found, error.finding])
            return False
        self.tally.report(found)
        if found and self._publisher is not None:
            self._mend(key, lambda: run_steps(mend()))
        return True

    def _mend(self, key: str, mend: Callable[[], object], *, has_to: bool = True) -> bool:
        """Mend; whether that was done. One thing that cannot be mended stops no other."""
        try:
            mended = mend()
        except Exception as error:  # a store may raise anything
            self.tally.report([Finding(Problem.COULD_NOT_REPAIR, key, explain_error(key, error))])
            return False
        self.has_mended |= has_to or bool(mended)
        return True

    def _settle_parent(
        self, name: str, parent: ParentCatalog, children: frozenset[str], unsure: frozenset[str]
    ) -> SubtreeCheck:
        def mend() -> Steps:
            own = children | (find_linked(self._store, parent) & unsure)
            return parent_steps(self._store, parent, set(own), rebuild=True)

        is_read = self._settle(parent.key, check_parent(self._store, parent, children, unsure), mend)
        return SubtreeCheck(name, self._find_catalog(parent.key) if is_read else None)

    def _find_catalog(self, key: str) -> bool | None:
        """Count the catalog if it is there; whether it is, None where nobody knows."""
        try:
            with looking_at(key):
                is_there = self._store.find_object(key) is not None
        except CouldNotRead as error:
            self.tally.report([error.finding])
            return None
        self.tally.add(catalogs=is_there)
        return is_there

    def _report_unknown_object(self, key: str) -> None:
        self.tally.report([Finding(Problem.UNKNOWN_OBJECT, key, "is no part of this catalog: look at it")])


def _collect_read(store: ObjectStore, key: str) -> StoredObject | None:
    """The object; None also where it cannot be read, which the check of it reports."""
    try:
        return read(store, key)
    except CouldNotRead:
        return None


def _merge(coverages: Iterable[Coverage | None]) -> Coverage | None:
    return merge_coverages(coverage for coverage in coverages if coverage is not None)


def _hash_listing(folder: YearFolder) -> int:
    """Tell whether two listings of a year, in one process, show the same objects."""
    objects = (info for each in folder.folders.values() for info in each.objects.values())
    return hash(tuple((info.key, info.size, info.modified) for info in (*objects, *folder.unknown_objects)))


def _is_tile(tile: str, zone: str) -> bool:
    try:
        return check_tile(tile)[:3] == zone
    except InvalidField:
        return False


def _map_bounded(
    pool: Executor, work: Callable[[A], R], arguments: Iterable[A], most: int = 32
) -> Iterator[R]:
    """As ``pool.map``, with at most ``most`` under way: neither the arguments nor the results pile up."""
    waiting: deque[Future[R]] = deque()
    for argument in arguments:
        waiting.append(pool.submit(work, argument))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_WORKERS = 8
#: Looks of a repair: all but the last may mend, and the first that mends nothing tells what is left.
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How far a check goes: ``limit`` broken items at the most are taken out by a repair, None for all;
    with ``decode_mask`` the pixels of every mask are counted.
    """

    limit: int | None = REMOVAL_LIMIT
    decode_mask: DecodeMask | None = None


def check_catalog(
    store: ObjectStore,
    context: CatalogContext,
    *,
    repair: bool,
    now: datetime,
    single_writer: bool = False,
    options: CheckOptions = CheckOptions(),
) -> CheckReport:
    """Look at every published object once; with ``repair``, mend what is wrong and look again.

    One year a worker is in memory at a time. Writers may publish meanwhile: what their markers
    announce is no problem, and what looks like one is looked at again. What could not be read is a
    finding of its own, and nothing that it concerns is touched.

    Raises:
        SettingsError: the catalog was published for another public URL: nothing would be as it must be.
        StoreUnavailable: the store did not answer at all; doing it again is harmless.
        StoreRefused: the store may not be listed; a repair of one that is not safe for several writers.
    """
    _check_public_url(store, context)
    publisher = Publisher(store, context, now, single_writer=single_writer) if repair else None
    if publisher is not None:
        publisher.check_writers()
    removals = Removals(options.limit)
    with ThreadPoolExecutor(_WORKERS) as items, ThreadPoolExecutor(_WORKERS) as tiles:
        checker = Checker(store, context, items.map, options.decode_mask)
        looks: list[Look] = []
        try:
            while not looks or (looks[-1].has_mended and len(looks) < _LOOKS):
                mender = publisher if len(looks) < _LOOKS - 1 else None
                clean = looks[-1].clean if looks else {}
                looks.append(Look(checker, now, mender, tiles, removals, clean))
                looks[-1].run()
        finally:
            # What an interrupted check has queued would take minutes more on a slow store.
            tiles.shutdown(wait=False, cancel_futures=True)
            items.shutdown(wait=False, cancel_futures=True)
    first, last = looks[0], looks[-1]
    return build_report(
        first.tally,
        last.tally,
        last.pending,
        repaired=repair,
        unlinked=removals.taken,
        held_back=removals.held_back,
    )


def _check_public_url(store: ObjectStore, context: CatalogContext) -> None:
    """See that a root catalog that is whole was written for this public URL."""
    stored = store.read_object(CATALOG_KEY)
    try:
        public_url = (
            None
            if stored is None
            else find_public_url(decode_document(stored.body, CATALOG_KEY), CATALOG_KEY)
        )
    except (CloudmaskError, LookupError, TypeError, AttributeError):
        return  # damaged: a finding like any other
    other = CatalogContext(public_url)
    if stored is None or other == context or stored.body != encode_document(build_root_catalog(other)):
        return
    advice = f"set it to {public_url}" if public_url else "unset it"
    raise SettingsError(
        f"CLOUDMASK_PUBLIC_URL: {CATALOG_KEY} was written for {public_url or 'relative links'}, not for "
        f"{context.public_url or 'relative links'}: {advice}, or publish again with ingest --force"
    )
