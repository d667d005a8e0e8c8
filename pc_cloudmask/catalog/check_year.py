"""Check one year: its catalog, its items and the contents of their folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from pc_cloudmask.catalog.check_item import ItemCheck, check_item
from pc_cloudmask.catalog.documents import Coverage, build_year_catalog, merge_coverages
from pc_cloudmask.catalog.fields import CatalogContext, encode_document, read_document
from pc_cloudmask.catalog.findings import (
    CouldNotRead,
    Finding,
    Problem,
    explain_error,
    find_absence,
    read,
    read_catalog,
)
from pc_cloudmask.catalog.layout import WITHDRAWN_NAME, ItemKeys
from pc_cloudmask.catalog.versions import (
    find_unsettled,
    order_version,
    read_scene_prefix,
    read_withdrawn_marker,
)
from pc_cloudmask.catalog.walk import ItemFolder, YearFolder, list_links, superseded_name
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.scene.scene import is_item_id
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore

#: How long an object that is no longer needed is kept: readers may still hold an older item or catalog.
GRACE = timedelta(days=7)
MapItems = Callable[[Callable[[str], ItemCheck], Iterable[str]], Iterable[ItemCheck]]


@dataclass(frozen=True, slots=True)
class Checker:
    """What checking a year needs.

    ``pending`` are the items that live writers are publishing. ``map_items`` may check the items of a year in parallel;
    a ``deep`` check also reads their rasters.
    """

    store: ObjectStore
    context: CatalogContext
    now: datetime
    pending: frozenset[str] = frozenset()
    map_items: MapItems = map
    deep: bool = False

    def is_past_grace(self, *objects: ObjectInfo | None) -> bool:
        """Return True if all of them are older than the grace period; an unknown age counts as young."""
        moments = [info.modified for info in objects if info is not None]
        return all(moment is not None and moment + GRACE <= self.now for moment in moments)


@dataclass(frozen=True, slots=True)
class BrokenItem:
    """Why an item must be published again, and the SHA-256 of its document, if it has one."""

    reason: str
    digest: str = ""


@dataclass(slots=True)
class YearTotals:
    """A year's share of the catalog; ``listing`` shows whether the year is unchanged at a later pass.

    ``coverage`` is what the collection must cover: published items except broken ones and those of live writers.
    ``allowed`` is what it may cover: also withdrawn items and those of live writers. ``allowed`` is complete only if
    ``is_coverage_known``, that is, if no linked item is broken or unread.
    """

    listing: int
    has_catalog: bool = False
    items: int = 0
    files: int = 0
    awaiting_removal: int = 0
    coverage: Coverage | None = None
    allowed: Coverage | None = None
    is_coverage_known: bool = True


@dataclass(slots=True)
class YearCheck:
    """The state of one year, and what a repair has to do about it.

    - ``broken``: items to be taken out and published again.
    - ``restored``: items whose withdrawn marker was a mistake, with the fingerprint that the marker kept.
    - ``withdrawn``: items whose grace period is over.
    - ``dangling``: items that link a previous version that does not exist.
    - ``orphans``, ``wrong_marks``: keys that are of no use.
    - ``unlinked``: items whose versions must be settled.
    - ``doubtful``: linked items that the listing lacks but that are not proven absent.

    A year that ``is_in_doubt``, because its catalog or what it links could not be read, is not written.
    """

    folder: YearFolder
    totals: YearTotals
    findings: list[Finding] = field(default_factory=list)
    broken: dict[str, BrokenItem] = field(default_factory=dict)
    restored: dict[str, str | None] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    wrong_marks: list[str] = field(default_factory=list)
    unlinked: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    is_in_doubt: bool = False

    @property
    def needs_repair(self) -> bool:
        """Whether there may be something to repair."""
        return bool(self.withdrawn) or any(finding.problem.is_mendable for finding in self.findings)

    def report(self, problem: Problem, key: str, detail: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(problem, key, detail))


def check_year(checker: Checker, folder: YearFolder) -> YearCheck:
    """Check the year as ``folder`` lists it."""
    check = YearCheck(folder, YearTotals(folder.hash_listing()))
    present = [item_id for item_id, each in sorted(folder.folders.items()) if each.item is not None]
    work = partial(check_item, checker.store, checker.context, folder, deep=checker.deep)
    items = {item.keys.item_id: item for item in checker.map_items(work, present)}
    for item in items.values():
        _judge_item(checker, check, item)
    _sum_up(checker, check, items)
    _check_versions(checker, check, items)
    _check_catalog(checker, check, items)
    for item_folder in folder.folders.values():
        _check_leftovers(checker, check, item_folder, items.get(item_folder.item_id))
    for info in folder.unknown_objects:
        check.report(Problem.UNKNOWN_OBJECT, info.key, "is no object of this catalog")
    return check


def _judge_item(checker: Checker, check: YearCheck, item: ItemCheck) -> None:
    """Decide what happens to an item; one with a withdrawn marker is linked by nothing."""
    item_id = item.keys.item_id
    is_pending = item_id in checker.pending
    if item.is_unread or not check.folder.folders[item_id].is_withdrawn:
        check.findings.extend(item.findings)
        if item.is_broken and not is_pending:
            check.broken[item_id] = BrokenItem(item.reason, item.digest)
        elif item.lost and item.is_sound and not is_pending:
            check.dangling.append(item_id)
            check.report(Problem.DANGLING_LINK, item.keys.item, f"links {item.lost}, which is not there")
    elif item.fingerprint is not None and not is_pending:
        # Whatever the marker says: withdrawing an item removes its fingerprint.
        if item.is_broken:
            # A repair died before it removed the fingerprint, which would keep ``ingest`` from publishing the scene.
            check.findings.extend(item.findings)
            check.broken[item_id] = BrokenItem(item.reason, item.digest)
        else:
            _restore(check, item.keys)


def _restore(check: YearCheck, keys: ItemKeys, fingerprint: str | None = None) -> None:
    check.restored[keys.item_id] = fingerprint
    reason = "is marked as withdrawn, was not withdrawn by its source, and is sound"
    check.report(Problem.UNLINKED_ITEM, keys.item, reason)


def _sum_up(checker: Checker, check: YearCheck, items: Mapping[str, ItemCheck]) -> None:
    """Fill in the totals that follow from the items."""
    totals, folders = check.totals, check.folder.folders
    totals.items, totals.files = len(items), sum(len(item.files) for item in items.values())
    sound = {item_id: item for item_id, item in items.items() if not item.is_broken}
    # Items of live writers are not in the collection's summaries yet.
    totals.coverage = merge_coverages(
        item.coverage
        for item_id, item in sound.items()
        if item_id not in checker.pending and folders[item_id].is_published
    )
    totals.allowed = merge_coverages(item.coverage for item in sound.values())
    totals.is_coverage_known = all(folders[item_id].is_withdrawn for item_id in items.keys() - sound.keys())


def _check_versions(checker: Checker, check: YearCheck, items: Mapping[str, ItemCheck]) -> None:
    """Find invalid marks of newer versions, and older versions that lack the mark of a newer one.

    A mark that names its own item, an older version or another scene would hide its item forever.
    """
    folder = check.folder
    sound = {item_id: item for item_id, item in items.items() if folder.holds(item_id) and item.is_sound}
    starts = {item_id: item.start for item_id, item in sound.items() if item_id not in checker.pending}
    for item_id in starts:
        for successor in folder.folders[item_id].successors:
            if successor in sound and not _is_newer_version(sound[successor], sound[item_id]):
                key = sound[item_id].keys.prefix + superseded_name(successor)
                check.wrong_marks.append(key)
                text = f"names {successor}, which is no newer version of this scene"
                check.report(Problem.WRONG_MARK, key, text)
    for older, newer in find_unsettled(starts, folder.linked_ids):
        check.unlinked.append(newer)
        text = f"is a newer version of {older}, which no mark says"
        check.report(Problem.UNSETTLED_VERSION, ItemKeys(folder.year_keys, newer).item, text)


def _is_newer_version(other: ItemCheck, item: ItemCheck) -> bool:
    other_id, item_id = other.keys.item_id, item.keys.item_id
    return (
        order_version(other_id) > order_version(item_id)
        and read_scene_prefix(other_id) == read_scene_prefix(item_id)
        and other.start is not None
        and other.start == item.start
    )


def _check_catalog(checker: Checker, check: YearCheck, items: Mapping[str, ItemCheck]) -> None:
    key, folder = check.folder.year_keys.catalog, check.folder
    expected = set(folder.linked_ids)
    try:
        catalog = read_catalog(checker.store, key)
    except CouldNotRead as error:
        check.is_in_doubt = True
        check.findings.append(error.finding)
        return
    check.totals.has_catalog = catalog is not None
    if catalog is None:
        if expected - checker.pending:
            check.report(Problem.MISSING_CATALOG, key, f"items that it should link: {len(expected)}")
        return
    ids = list_links(read_document(catalog), "item")
    if ids is None:
        check.report(Problem.UNREADABLE, key, "is not a catalog")
        return
    linked = set(ids)
    _check_linked(checker.store, check, linked)
    if len(ids) != len(linked):
        check.report(Problem.REPEATED_LINK, key, "links an item twice")
    _check_reached(check, items, linked | checker.pending)
    rendered = encode_document(build_year_catalog(checker.context, folder.year_keys, sorted(linked)))
    if catalog.body != rendered or linked - expected - check.doubtful:
        check.report(Problem.STALE_CATALOG, key, "is not what its items give")


def _check_linked(store: ObjectStore, check: YearCheck, linked: set[str]) -> None:
    """Find dead links, where a listing and a read agree that the item does not exist."""
    year_keys = check.folder.year_keys
    for item_id in sorted(linked):
        if check.folder.folders.get(item_id, ItemFolder(item_id)).item is not None:
            continue
        doubt = find_absence(store, ItemKeys(year_keys, item_id).item) if is_item_id(item_id) else None
        if doubt is None:
            check.report(
                Problem.DANGLING_LINK, year_keys.catalog, f"links {item_id:.128}, which is not there"
            )
        else:
            check.is_in_doubt = True
            check.doubtful.add(item_id)
            check.findings.append(doubt)


def _check_reached(check: YearCheck, items: Mapping[str, ItemCheck], reached: set[str]) -> None:
    """Find published items that neither the catalog nor a newer version links."""
    reached = reached | {older for item in items.values() for older in item.predecessors}
    unread = check.doubtful.union(item_id for item_id, item in items.items() if item.is_unread)
    for item_id, item in sorted(check.folder.folders.items()):
        if item.is_published and item_id not in reached and not unread.intersection(item.successors):
            check.unlinked.append(item_id)
            year_keys = check.folder.year_keys
            key = ItemKeys(year_keys, item_id).item
            check.report(Problem.UNLINKED_ITEM, key, f"{year_keys.catalog} lacks it")


def _check_leftovers(checker: Checker, check: YearCheck, folder: ItemFolder, item: ItemCheck | None) -> None:
    """Divide the objects that no item links into those that may be removed and those that may still be needed."""
    item_id = folder.item_id
    if (item is not None and item.is_unread) or item_id in check.broken or item_id in check.restored:
        return
    used = item.files if item is not None else set()
    unused = [
        info
        for name, info in folder.objects.items()
        if not name.endswith(".json") and (folder.is_withdrawn or info.key not in used)
    ]
    if item_id in checker.pending:
        check.totals.awaiting_removal += len(unused)
    elif folder.is_withdrawn:
        if folder.objects.keys() != {WITHDRAWN_NAME}:
            _check_withdrawn(checker, check, folder, item, len(unused))
    elif not checker.is_past_grace(*unused, folder.item):
        check.totals.awaiting_removal += len(unused)
    elif folder.item is None:
        if unused:
            _judge_remains(checker.store, check, ItemKeys(check.folder.year_keys, item_id))
    else:
        check.orphans += [info.key for info in unused]
        check.findings += [Finding(Problem.ORPHAN, info.key, "no item links it") for info in unused]


def _check_withdrawn(
    checker: Checker, check: YearCheck, folder: ItemFolder, item: ItemCheck | None, files: int
) -> None:
    """Release a withdrawn item whose grace period is over by both its marker's clock and the store's.

    An item that was taken out as broken but is sound is restored. While its marker or its document is in doubt, it
    stays.
    """
    keys = ItemKeys(check.folder.year_keys, folder.item_id)
    try:
        stored = read(checker.store, keys.withdrawn_marker)
        if stored is None:
            raise CouldNotRead(keys.withdrawn_marker, "was there a moment ago")
        marker = read_withdrawn_marker(stored, keys)
    except CouldNotRead as error:
        check.findings.append(error.finding)
        return
    except (CloudmaskError, LookupError, TypeError, ValueError) as error:
        reason = explain_error(keys.withdrawn_marker, error)
        check.report(Problem.COULD_NOT_READ, keys.withdrawn_marker, f"is no withdrawn marker: {reason}")
        return
    doubt = find_absence(checker.store, keys.item) if folder.item is None else None
    if doubt is not None:
        check.findings.append(doubt)
    elif item is not None and not item.is_broken and marker.fingerprint is not None:
        _restore(check, keys, marker.fingerprint)
    elif marker.withdrawn <= checker.now - GRACE and checker.is_past_grace(*folder.objects.values()):
        check.withdrawn.append(folder.item_id)
    else:
        check.totals.awaiting_removal += files


def _judge_remains(store: ObjectStore, check: YearCheck, keys: ItemKeys) -> None:
    """Give files whose item document is missing the grace period of a broken item."""
    doubt = find_absence(store, keys.item)
    if doubt is not None:
        check.findings.append(doubt)
        return
    finding = Finding(Problem.BROKEN_ITEM, keys.item, "is not there, and its files are")
    check.findings.append(finding)
    check.broken[keys.item_id] = BrokenItem(str(finding))
