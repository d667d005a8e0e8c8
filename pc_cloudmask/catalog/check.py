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
    check_branch,
    check_collection,
    check_extent,
    find_linked,
    read_markers,
)
from pc_cloudmask.catalog.check_year import Checker, LeafCheck, Scope, check_leaf
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
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, PENDING_PREFIX, LeafKeys
from pc_cloudmask.catalog.parents import (
    BAND_FORM,
    YEAR_FORM,
    Branch,
    band_branch,
    branch_steps,
    collection_branch,
    merge_coverages,
    root_steps,
    tile_branch,
)
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.repair import REMOVAL_LIMIT, Removals, collection_repair_steps, repair_leaf
from pc_cloudmask.catalog.steps import LEASE, Steps, run_steps
from pc_cloudmask.catalog.year import LeafFolder, group_leaf
from pc_cloudmask.errors import CloudmaskError, InvalidField, SettingsError
from pc_cloudmask.scene.ids import check_tile
from pc_cloudmask.storage.store import PROBE_PREFIX, ObjectInfo, ObjectStore, StoredObject

#: Times a leaf with findings is looked at again: a writer may have been at it between two readings.
_CONFIRMATIONS = 3
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SubtreeCheck:
    """What a leaf, tile or zone came to: its name, and whether it has a catalog; None where nobody knows."""

    name: str
    has_catalog: bool | None


@dataclass(frozen=True, slots=True)
class LeafResult:
    """What one leaf came to; ``listing`` tells whether a later look may take it for the same."""

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

    Leaves in which an earlier look found nothing, ``clean``, are not read again while their listing is
    the same.
    """

    def __init__(
        self,
        checker: Checker,
        now: datetime,
        publisher: Publisher | None,
        tiles: Executor,
        removals: Removals,
        clean: Mapping[LeafKeys, LeafResult],
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
        self._results: dict[LeafKeys, LeafResult] = {}
        self.clean: dict[LeafKeys, LeafResult] = {}
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
        zones = [self._check_band(name) for name in self._list_bands()]
        if self._is_listed:
            self._check_collection(zones, before)
        self._check_root(zones)

    def _check_collection(self, zones: list[SubtreeCheck], before: StoredObject | None) -> None:
        linked, unsure = self._sort_children(zones, lambda leaf: leaf.band)
        coverage = _merge(each.coverage for each in self._results.values())
        allowed = _merge(each.allowed for each in self._results.values())
        results = self._results.values()
        is_known = bool(results) and not self.tally.unread and all(each.is_coverage_known for each in results)

        def find() -> Iterator[Finding]:
            yield from check_collection(self._store, self._context, linked, unsure, coverage)
            if is_known:
                yield from check_extent(before, allowed)

        def mend() -> Steps:
            branch = collection_branch(self._store, self._context, None, None)
            names = linked | (find_linked(self._store, branch) & unsure)
            wanted, known = (allowed, before) if is_known else (coverage, None)
            return collection_repair_steps(self._store, self._context, set(names), wanted, known)

        self._settle(COLLECTION_KEY, find(), mend)

    def _check_root(self, zones: list[SubtreeCheck]) -> None:
        linked, unsure = self._sort_children(zones, lambda leaf: leaf.band)

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

    def _list_bands(self) -> Iterator[str]:
        branch = collection_branch(self._store, self._context, None, None)
        names, self._is_listed = self._list_children(branch)
        for name in sorted(names):
            if BAND_FORM.fullmatch(name):
                yield name
            elif name != "items":
                self._report_stray(f"{COLLECTION_ID}/{name}/")

    def _list_children(self, branch: Branch) -> tuple[list[str], bool]:
        """Names of the folders beside the catalog, and whether it could be found out.

        Where they cannot be listed, those that it links are looked at one by one.
        """
        try:
            with looking_at(branch.folder):
                return list(self._store.list_folders(branch.folder)), True
        except CouldNotRead as error:
            self.tally.report([error.finding])
        try:
            with looking_at(branch.key):
                return sorted(find_linked(self._store, branch)), False
        except CouldNotRead as error:
            self.tally.report([error.finding])
        return [], False

    def _check_band(self, band: str) -> SubtreeCheck:
        branch = band_branch(self._context, band)
        names, is_listed = self._list_children(branch)
        tiles = list(_map_bounded(self._tiles, partial(self._check_tile, band), names))
        if not is_listed:
            return SubtreeCheck(band, None)
        linked, unsure = self._sort_children(tiles, lambda leaf: leaf.tile)
        return self._settle_branch(band, branch, linked, unsure)

    def _check_tile(self, band: str, tile: str) -> SubtreeCheck:
        prefix = f"{COLLECTION_ID}/{band}/{tile}/"
        if not _is_tile(tile, band):
            self._report_stray(prefix)
            return SubtreeCheck(tile, False)
        branch = tile_branch(self._context, tile)
        try:
            leaves = [self._check_leaf(folder) for folder in self._list_leaves(tile, prefix)]
        except CouldNotRead:
            return self._check_years(branch, tile)
        years, unsure = self._sort_children(
            leaves, lambda leaf: f"{leaf.year:04d}" if leaf.tile == tile else ""
        )
        return self._settle_branch(tile, branch, years, unsure)

    def _check_years(self, branch: Branch, tile: str) -> SubtreeCheck:
        """Look at the years of a tile that cannot be listed, one by one; some may have been looked at."""
        names, _ = self._list_children(branch)
        for leaf in (LeafKeys(tile, int(name)) for name in names if YEAR_FORM.fullmatch(name)):
            try:
                if leaf not in self._results:
                    self._check_leaf(group_leaf(leaf, list_objects(self._store, leaf.prefix)))
            except CouldNotRead as error:
                self.tally.report([error.finding])
        return SubtreeCheck(tile, None)

    def _sort_children(
        self, children: Iterable[SubtreeCheck], name_of: Callable[[LeafKeys], str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Names of those with a catalog, and of those that may be linked or not."""
        children = list(children)
        busy = {name_of(keys.leaf) for keys in self._markers.live}
        unknown = {child.name for child in children if child.has_catalog is None}
        return frozenset(child.name for child in children if child.has_catalog), frozenset(busy | unknown)

    def _list_leaves(self, tile: str, prefix: str) -> Iterator[LeafFolder]:
        """The tile's leaves from one listing, one at a time."""

        def year_of(info: ObjectInfo) -> str:
            return info.key.removeprefix(prefix).split("/")[0]

        for year, objects in groupby(list_objects(self._store, prefix), year_of):
            if YEAR_FORM.fullmatch(year):
                yield group_leaf(LeafKeys(tile, int(year)), objects)
            elif year != "catalog.json":
                self._report_stray(f"{prefix}{year}")

    def _check_leaf(self, folder: LeafFolder) -> SubtreeCheck:
        leaf = folder.leaf
        name = f"{leaf.year:04d}"
        known = self._known.get(leaf)
        if known is not None and known.listing == _hash_listing(folder):
            self._keep(leaf, known)
            self.clean[leaf] = known
            return SubtreeCheck(name, known.has_catalog)
        scope = Scope(self._now, self._markers.pending)
        check = self._confirm(check_leaf(self._checker, folder, scope))
        self.tally.report(check.findings)
        result = LeafResult(
            _hash_listing(check.folder),
            check.has_catalog,
            check.items,
            check.files,
            check.awaiting_removal,
            check.coverage,
            check.allowed,
            check.is_coverage_known,
        )
        self._keep(leaf, result)
        if not check.findings and not check.withdrawn:
            self.clean[leaf] = result
        has_catalog: bool | None = None if check.is_in_doubt else check.has_catalog
        if check.needs_repair and not check.is_in_doubt:

            def mend() -> None:
                nonlocal has_catalog
                has_catalog = repair_leaf(self._store, self._context, check, self._now, self._removals)

            if self._publisher is not None and not self._mend(leaf.catalog, mend):
                has_catalog = None
        return SubtreeCheck(name, has_catalog)

    def _confirm(self, check: LeafCheck) -> LeafCheck:
        """Look again where something is wrong: a writer may have been at it between two readings."""
        for _ in range(_CONFIRMATIONS):
            if all(finding.problem is Problem.COULD_NOT_READ for finding in check.findings):
                break
            scope = Scope(self._now, read_markers(self._store, self._now).pending)
            folder = group_leaf(check.folder.leaf, list_objects(self._store, check.folder.leaf.prefix))
            check = check_leaf(self._checker, folder, scope)
        return check

    def _keep(self, leaf: LeafKeys, result: LeafResult) -> None:
        self._results[leaf] = result
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

    def _settle_branch(
        self, name: str, branch: Branch, children: frozenset[str], unsure: frozenset[str]
    ) -> SubtreeCheck:
        def mend() -> Steps:
            own = children | (find_linked(self._store, branch) & unsure)
            return branch_steps(self._store, branch, set(own), rebuild=True)

        is_read = self._settle(branch.key, check_branch(self._store, branch, children, unsure), mend)
        return SubtreeCheck(name, self._find_catalog(branch.key) if is_read else None)

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

    def _report_stray(self, key: str) -> None:
        self.tally.report([Finding(Problem.STRAY, key, "is no part of this catalog: look at it")])


def _collect_read(store: ObjectStore, key: str) -> StoredObject | None:
    """The object; None also where it cannot be read, which the check of it reports."""
    try:
        return read(store, key)
    except CouldNotRead:
        return None


def _merge(coverages: Iterable[Coverage | None]) -> Coverage | None:
    return merge_coverages(coverage for coverage in coverages if coverage is not None)


def _hash_listing(folder: LeafFolder) -> int:
    """Tell whether two listings of a leaf, in one process, show the same objects."""
    objects = (info for each in folder.folders.values() for info in each.objects.values())
    return hash(tuple((info.key, info.size, info.modified) for info in (*objects, *folder.strays)))


def _is_tile(tile: str, band: str) -> bool:
    try:
        return check_tile(tile)[:3] == band
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

    One leaf a worker is in memory at a time. Writers may publish meanwhile: what their markers
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
