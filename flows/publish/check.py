"""Proving the published catalog whole, or making it so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import TypeVar

from flows.errors import CloudmaskError, InvalidField, SettingsError
from flows.ports import ObjectInfo, ObjectStore
from flows.publish.branch_check import check_branch, check_collection
from flows.publish.branches import BAND_FORM, YEAR_FORM, Branch, band_branch, tile_branch
from flows.publish.catalogs import branch_steps, collection_steps, merge_coverages, root_steps
from flows.publish.findings import CheckReport, Finding, Problem, Tally
from flows.publish.leaf import LeafFolder, group_leaf, list_leaf
from flows.publish.leaf_check import Checker, Scope, check_leaf
from flows.publish.marker import LEASE, Marker, list_markers, read_marker
from flows.publish.publisher import Publisher
from flows.publish.repair import repair_leaf
from flows.publish.steps import Steps, run_steps
from flows.stac.catalog import build_root_catalog
from flows.stac.coverage import Coverage
from flows.stac.encoding import decode_document, encode_document
from flows.stac.layout import CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, PROBE_PREFIX, LeafKeys, check_tile
from flows.stac.links import CatalogContext, find_public_url

_CONFIRMATIONS = 3
"""Times a leaf with findings is looked at again: a writer may have been at it between two readings."""
_WORKERS = 8

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SubtreeCheck:
    """What a leaf, tile or band came to: its name, whether it has a catalog, what its items cover."""

    name: str
    has_catalog: bool
    coverage: Coverage | None


def check_catalog(
    store: ObjectStore, context: CatalogContext, *, repair: bool, now: datetime, single_writer: bool = False
) -> CheckReport:
    """Look at every published object once; with ``repair``, mend what is wrong.

    One leaf a worker is in memory at a time. Writers may publish meanwhile: what their markers
    announce is no problem, and what looks like one is looked at again.

    Raises:
        SettingsError: the catalog was published for another public URL: nothing would be as it must be.
        StoreUnavailable: the store did not answer; doing it again is harmless.
        StoreRefused: a repair of a store that is not safe for several writers.
    """
    _check_public_url(store, context)
    publisher = Publisher(store, context, now, single_writer=single_writer) if repair else None
    with ThreadPoolExecutor(_WORKERS) as items, ThreadPoolExecutor(_WORKERS) as tiles:
        try:
            return _Check(Checker(store, context, items.map), now, publisher, tiles).run()
        finally:
            # What an interrupted check has queued would take minutes more on a slow store.
            tiles.shutdown(wait=False, cancel_futures=True)
            items.shutdown(wait=False, cancel_futures=True)


class _Check:
    """One check under way; without a ``publisher`` nothing is mended."""

    def __init__(self, checker: Checker, now: datetime, publisher: Publisher | None, tiles: Executor) -> None:
        self._checker = checker
        self._store = checker.store
        self._context = checker.context
        self._now = now
        self._publisher = publisher
        self._tiles = tiles
        self._tally = Tally()
        self._live: list[Marker] = []

    def run(self) -> CheckReport:
        self._check_markers()
        bands = [self._check_band(name) for name in self._list_bands()]
        linked = frozenset(band.name for band in bands if band.has_catalog)
        coverage = merge_coverages(band.coverage for band in bands if band.coverage is not None)
        busy = frozenset(marker.keys.leaf.band for marker in self._live)
        self._settle(
            check_collection(self._store, self._context, linked, busy, coverage),
            lambda: collection_steps(self._store, self._context, set(linked), coverage, rebuild=True),
        )
        self._settle(self._check_root(bool(linked - busy)), lambda: root_steps(self._store, self._context))
        self._count_catalogs(COLLECTION_KEY, CATALOG_KEY)
        return self._tally.close(len(self._live), repaired=self._publisher is not None)

    def _check_markers(self) -> None:
        """Replay and drop the markers of dead writers; remember those of living ones."""
        stale = [key for key in list_markers(self._store) if self._is_stale(key)]
        self._tally.report(
            Finding(Problem.STALE_MARKER, key, "its writer died: nobody ends what it began") for key in stale
        )
        if self._publisher is not None:
            self._publisher.recover()
            for key in [*stale, *self._find_dead_probes()]:
                self._store.delete_object(key)
        self._live = self._read_live()

    def _find_dead_probes(self) -> list[str]:
        """Keys of what killed probes left; a probe takes seconds, a lease is long enough for any."""
        return [
            info.key
            for info in self._store.list_objects(PROBE_PREFIX)
            if info.modified is not None and info.modified + LEASE <= self._now
        ]

    def _is_stale(self, key: str) -> bool:
        marker = read_marker(self._store, key)
        return marker is None or marker.is_stale(self._now)

    def _read_live(self) -> list[Marker]:
        markers = (read_marker(self._store, key) for key in list_markers(self._store))
        return [marker for marker in markers if marker is not None and not marker.is_stale(self._now)]

    def _list_bands(self) -> Iterator[str]:
        for name in sorted(self._store.list_folders(f"{COLLECTION_ID}/")):
            if BAND_FORM.fullmatch(name):
                yield name
            elif name != "items":
                self._report_stray(f"{COLLECTION_ID}/{name}/")

    def _check_band(self, band: str) -> SubtreeCheck:
        prefix = f"{COLLECTION_ID}/{band}/"
        names = self._store.list_folders(prefix)
        tiles = list(_map_bounded(self._tiles, partial(self._check_tile, band), names))
        linked = frozenset(tile.name for tile in tiles if tile.has_catalog)
        busy = frozenset(marker.keys.leaf.tile for marker in self._live)
        self._settle_branch(band_branch(self._context, band), linked, busy)
        coverage = merge_coverages(tile.coverage for tile in tiles if tile.coverage is not None)
        return SubtreeCheck(band, self._count_catalogs(f"{prefix}catalog.json"), coverage)

    def _check_tile(self, band: str, tile: str) -> SubtreeCheck:
        prefix = f"{COLLECTION_ID}/{band}/{tile}/"
        if not _is_tile(tile, band):
            self._report_stray(prefix)
            return SubtreeCheck(tile, False, None)
        leaves = [self._check_leaf(folder) for folder in self._list_leaves(tile, prefix)]
        years = frozenset(leaf.name for leaf in leaves if leaf.has_catalog)
        live = (marker.keys.leaf for marker in self._live)
        busy = frozenset(f"{leaf.year:04d}" for leaf in live if leaf.tile == tile)
        self._settle_branch(tile_branch(self._context, tile), years, busy)
        coverage = merge_coverages(leaf.coverage for leaf in leaves if leaf.coverage is not None)
        return SubtreeCheck(tile, self._count_catalogs(f"{prefix}catalog.json"), coverage)

    def _list_leaves(self, tile: str, prefix: str) -> Iterator[LeafFolder]:
        """The tile's leaves from one listing, one at a time."""

        def year_of(info: ObjectInfo) -> str:
            return info.key.removeprefix(prefix).split("/")[0]

        for year, objects in groupby(self._store.list_objects(prefix), year_of):
            if YEAR_FORM.fullmatch(year):
                yield group_leaf(LeafKeys(tile, int(year)), objects)
            elif year != "catalog.json":
                self._report_stray(f"{prefix}{year}")

    def _check_leaf(self, folder: LeafFolder) -> SubtreeCheck:
        scope = self._scope(self._live)
        leaf = folder.leaf
        check = check_leaf(self._checker, folder, self._store.read_object(leaf.catalog), scope)
        for _ in range(_CONFIRMATIONS):
            if not check.findings:
                break
            scope = self._scope(self._read_live())
            catalog = self._store.read_object(leaf.catalog)
            check = check_leaf(self._checker, list_leaf(self._store, leaf), catalog, scope)
        self._tally.report(check.findings)
        self._tally.add(items=check.items, files=check.files, catalogs=int(check.has_catalog))
        self._tally.add(awaiting_removal=check.awaiting_removal)
        has_catalog = check.has_catalog
        if self._publisher is not None and (check.findings or check.withdrawn):
            has_catalog = repair_leaf(self._store, self._context, check, self._now)
        return SubtreeCheck(f"{leaf.year:04d}", has_catalog, check.coverage)

    def _scope(self, live: list[Marker]) -> Scope:
        return Scope(self._now, frozenset(marker.keys.item_id for marker in live))

    def _check_root(self, wanted: bool) -> Iterator[Finding]:
        stored = self._store.read_object(CATALOG_KEY)
        if stored is None:
            if wanted:
                yield Finding(Problem.MISSING_CATALOG, CATALOG_KEY, "the collection is not linked")
        elif stored.body != encode_document(build_root_catalog(self._context)):
            yield Finding(Problem.STALE_CATALOG, CATALOG_KEY, "is not what this program writes")

    def _settle(self, findings: Iterable[Finding], mend: Callable[[], Steps]) -> None:
        """Report the findings, and mend them where that is asked for."""
        found = list(findings)
        self._tally.report(found)
        if found and self._publisher is not None:
            run_steps(mend())

    def _settle_branch(self, branch: Branch, children: frozenset[str], busy: frozenset[str]) -> None:
        self._settle(
            check_branch(self._store, branch, children, busy),
            lambda: branch_steps(self._store, branch, set(children), rebuild=True),
        )

    def _count_catalogs(self, *keys: str) -> bool:
        """Count those that are there; whether all are."""
        there = [self._store.find_object(key) is not None for key in keys]
        self._tally.add(catalogs=sum(there))
        return all(there)

    def _report_stray(self, key: str) -> None:
        self._tally.report([Finding(Problem.STRAY, key, "is no part of this catalog: look at it")])


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
