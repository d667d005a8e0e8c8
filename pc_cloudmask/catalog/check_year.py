"""Checking one year: its catalog, its items and what lies in their folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from pc_cloudmask.catalog.check_item import DecodeMask, ItemCheck, check_item
from pc_cloudmask.catalog.coverage import Coverage
from pc_cloudmask.catalog.documents import build_year_catalog
from pc_cloudmask.catalog.fields import CatalogContext, decode_document, encode_document
from pc_cloudmask.catalog.findings import CouldNotRead, Finding, Problem, find_absence, read
from pc_cloudmask.catalog.layout import WITHDRAWN_NAME, ItemKeys
from pc_cloudmask.catalog.parents import merge_coverages
from pc_cloudmask.catalog.versions import find_unsettled, read_scene_prefix
from pc_cloudmask.catalog.year import ItemFolder, YearFolder, superseded_name
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.scene.ids import is_item_id
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore, StoredObject
from stac_ext.cloudmask import FINGERPRINT_PROP

#: How long an object that is of no use any more is kept: readers may hold an older item or catalog.
GRACE = timedelta(days=7)
MapItems = Callable[[Callable[[str], ItemCheck], Iterable[str]], Iterable[ItemCheck]]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a check knows beside the objects: the time, and which items living writers are publishing."""

    now: datetime
    pending: frozenset[str]

    def is_past_grace(self, *objects: ObjectInfo | None) -> bool:
        """Whether all of them are older than the grace period; an unknown age is young."""
        moments = [info.modified for info in objects if info is not None]
        return all(moment is not None and moment + GRACE <= self.now for moment in moments)


@dataclass(frozen=True, slots=True)
class BrokenItem:
    """Why an item must be published again, and the SHA-256 of its document, if it has one."""

    reason: str
    digest: str = ""


@dataclass(slots=True)
class YearCheck:
    """What one year is, and what a repair has to do about it.

    ``broken`` are items to be taken out and published again; ``restored`` those whose withdrawn marker
    was a mistake, with the fingerprint that it kept; ``withdrawn`` those whose grace period is over;
    ``orphans`` and ``wrong_marks`` keys of no use; ``unlinked`` items whose versions are to settle.
    """

    folder: YearFolder
    findings: list[Finding] = field(default_factory=list)
    broken: dict[str, BrokenItem] = field(default_factory=dict)
    restored: dict[str, str | None] = field(default_factory=dict)
    withdrawn: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    wrong_marks: list[str] = field(default_factory=list)
    unlinked: list[str] = field(default_factory=list)
    awaiting_removal: int = 0
    items: int = 0
    files: int = 0
    has_catalog: bool = False
    #: Whether the catalog, or what it links, could not be looked at: then it is not written.
    is_in_doubt: bool = False
    #: Linked items that the listing lacks and that are not surely absent.
    doubtful: set[str] = field(default_factory=set)
    #: What the collection must cover: published items, but for those of living writers and broken ones.
    coverage: Coverage | None = None
    #: What it may cover: those of living writers and withdrawn ones, too.
    allowed: Coverage | None = None
    #: Whether no linked item is broken or unread, so that ``allowed`` is all.
    is_coverage_known: bool = True

    @property
    def needs_repair(self) -> bool:
        """Whether a repair may have something to do."""
        return bool(self.withdrawn) or any(finding.problem.is_mendable for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Checker:
    """What every year is checked with.

    ``map_items`` may check the items of a year side by side; ``decode_mask`` makes their masks' pixels
    part of it.
    """

    store: ObjectStore
    context: CatalogContext
    map_items: MapItems = map
    decode_mask: DecodeMask | None = None


def check_year(checker: Checker, folder: YearFolder, scope: Scope) -> YearCheck:
    """Check the year as ``folder`` lists it."""
    check = YearCheck(folder)
    present = [item_id for item_id, each in sorted(folder.folders.items()) if each.item is not None]
    work = partial(check_item, checker.store, folder, decode_mask=checker.decode_mask)
    items = {item.keys.item_id: item for item in checker.map_items(work, present)}
    for item_id, item in items.items():
        _judge_item(checker.store, check, item, is_pending=item_id in scope.pending)
    check.items, check.files = len(items), sum(len(item.files) for item in items.values())
    _merge_coverages(check, items, scope)
    _check_versions(check, items, scope)
    check.findings.extend(_check_catalog(checker, check, items, scope))
    for item_folder in folder.folders.values():
        _check_leftovers(checker.store, check, item_folder, items.get(item_folder.item_id), scope)
    for unknown_object in folder.unknown_objects:
        check.findings.append(
            Finding(Problem.UNKNOWN_OBJECT, unknown_object.key, "is no object of this catalog: look at it")
        )
    return check


def _judge_item(store: ObjectStore, check: YearCheck, item: ItemCheck, *, is_pending: bool) -> None:
    """Decide what becomes of an item; one with a withdrawn marker is linked by nothing."""
    item_id = item.keys.item_id
    if item.is_unread or not check.folder.folders[item_id].is_withdrawn:
        check.findings.extend(item.findings)
        if item.is_broken and not is_pending:
            check.broken[item_id] = BrokenItem(item.reason, item.digest)
        return
    try:
        kept = _read_kept_fingerprint(read(store, item.keys.withdrawn_marker))
    except CouldNotRead as error:
        check.findings.append(error.finding)
        return
    if is_pending:
        return
    if item.is_broken and item.fingerprint is not None:
        # A repair died before it took the fingerprint, and so would keep ``ingest`` from publishing it.
        check.findings.extend(item.findings)
        check.broken[item_id] = BrokenItem(item.reason, item.digest)
    elif not item.is_broken and (item.fingerprint or kept) is not None:
        check.restored[item_id] = kept
        reason = "is marked as withdrawn, was not withdrawn by its source, and is sound"
        check.findings.append(Finding(Problem.UNLINKED_ITEM, item.keys.item, reason))


def _read_kept_fingerprint(stored: StoredObject | None) -> str | None:
    """The fingerprint that a repair kept in its withdrawn marker; None in any other marker."""
    try:
        kept = json.loads(stored.body)[FINGERPRINT_PROP] if stored is not None else None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return kept if isinstance(kept, str) else None


def _merge_coverages(check: YearCheck, items: Mapping[str, ItemCheck], scope: Scope) -> None:
    sound = {item_id: item for item_id, item in items.items() if not item.is_broken}
    # Those of living writers are not in the collection's summaries yet.
    counted = [
        item
        for item_id, item in sound.items()
        if item_id not in scope.pending and check.folder.folders[item_id].is_published
    ]
    check.coverage = merge_coverages(item.coverage for item in counted if item.coverage is not None)
    check.is_coverage_known = all(
        check.folder.folders[item_id].is_withdrawn for item_id in items.keys() - sound.keys()
    )
    check.allowed = merge_coverages(item.coverage for item in sound.values() if item.coverage is not None)


def _check_versions(check: YearCheck, items: Mapping[str, ItemCheck], scope: Scope) -> None:
    """Find marks of newer versions that are none, and older versions without the mark of a newer one.

    A mark that names itself, an older version or another scene would hide its item for ever.
    """
    starts: dict[str, str | None] = {}
    for item_id, item in items.items():
        if check.folder.holds(item_id) and item.is_sound and item_id not in scope.pending:
            for successor in check.folder.folders[item_id].successors:
                other = items.get(successor)
                if other is None or not other.is_sound or not check.folder.holds(successor):
                    continue
                if not _is_newer_version(other, item):
                    key = item.keys.prefix + superseded_name(successor)
                    check.wrong_marks.append(key)
                    text = f"names {successor}, which is no newer version of this scene"
                    check.findings.append(Finding(Problem.WRONG_MARK, key, text))
            starts[item_id] = item.start
    for older, newer in find_unsettled(starts, check.folder.linked_ids):
        check.unlinked.append(newer)
        key = ItemKeys(check.folder.year_keys, newer).item
        text = f"is a newer version of {older}, which no mark says"
        check.findings.append(Finding(Problem.UNSETTLED_VERSION, key, text))


def _is_newer_version(other: ItemCheck, item: ItemCheck) -> bool:
    other_id, item_id = other.keys.item_id, item.keys.item_id
    return (
        other_id > item_id
        and read_scene_prefix(other_id) == read_scene_prefix(item_id)
        and other.start is not None
        and other.start == item.start
    )


def _check_catalog(
    checker: Checker, check: YearCheck, items: Mapping[str, ItemCheck], scope: Scope
) -> Iterator[Finding]:
    key, folder = check.folder.year_keys.catalog, check.folder
    expected = set(folder.linked_ids)
    try:
        catalog = read(checker.store, key)
    except CouldNotRead as error:
        check.is_in_doubt = True
        yield error.finding
        return
    check.has_catalog = catalog is not None
    if catalog is None:
        if expected - scope.pending:
            yield Finding(Problem.MISSING_CATALOG, key, f"items that it should link: {len(expected)}")
        return
    ids = _read_item_ids(catalog)
    if ids is None:
        yield Finding(Problem.UNREADABLE, key, "is not a catalog")
        return
    linked = set(ids)
    yield from _check_linked(checker.store, check, linked)
    if len(ids) != len(linked):
        yield Finding(Problem.REPEATED_LINK, key, "links an item twice")
    yield from _check_reached(check, items, linked, scope)
    same = catalog.body == encode_document(
        build_year_catalog(checker.context, folder.year_keys, sorted(linked))
    )
    if not same or linked - expected - check.doubtful:
        yield Finding(Problem.STALE_CATALOG, key, "is not what its items give")


def _check_linked(store: ObjectStore, check: YearCheck, linked: set[str]) -> Iterator[Finding]:
    """A link leads nowhere only if a listing and a read agree that its item is not there."""
    for item_id in sorted(linked):
        if check.folder.folders.get(item_id, ItemFolder(item_id)).item is not None:
            continue
        keys = ItemKeys(check.folder.year_keys, item_id)
        doubt = find_absence(store, keys.item) if is_item_id(item_id) else None
        if doubt is not None:
            check.is_in_doubt = True
            check.doubtful.add(item_id)
        text = f"links {item_id:.128}, which is not there"
        yield doubt or Finding(Problem.DANGLING_LINK, check.folder.year_keys.catalog, text)


def _check_reached(
    check: YearCheck, items: Mapping[str, ItemCheck], linked: set[str], scope: Scope
) -> Iterator[Finding]:
    """Find published items that neither the catalog links nor a newer version."""
    reached = linked | scope.pending
    reached |= {older for item in items.values() for older in item.predecessors}
    unread = check.doubtful.union(item_id for item_id, item in items.items() if item.is_unread)
    for item_id, item in sorted(check.folder.folders.items()):
        if item.is_published and item_id not in reached and not unread.intersection(item.successors):
            check.unlinked.append(item_id)
            key = ItemKeys(check.folder.year_keys, item_id).item
            yield Finding(Problem.UNLINKED_ITEM, key, f"{check.folder.year_keys.catalog} lacks it")


def _read_item_ids(catalog: StoredObject) -> list[str] | None:
    """Ids of the items that the catalog links; None where it is none."""
    try:
        links = decode_document(catalog.body, catalog.key)["links"]
        return [link["href"].split("/")[-2] for link in links if link["rel"] == "item"]
    except (CloudmaskError, LookupError, TypeError, AttributeError):
        return None


def _check_leftovers(
    store: ObjectStore, check: YearCheck, folder: ItemFolder, item: ItemCheck | None, scope: Scope
) -> None:
    """Sort the objects that no item links into those that may go and those that may be wanted yet."""
    item_id = folder.item_id
    if (item is not None and item.is_unread) or item_id in check.broken or item_id in check.restored:
        return
    used = item.files if item is not None else set()
    unused = [
        info
        for name, info in folder.objects.items()
        if not name.endswith(".json") and (folder.is_withdrawn or info.key not in used)
    ]
    if item_id in scope.pending:
        check.awaiting_removal += len(unused)
    elif folder.is_withdrawn:
        rest = [info for name, info in folder.objects.items() if name != WITHDRAWN_NAME]
        if rest and scope.is_past_grace(*folder.objects.values()):
            check.withdrawn.append(item_id)
        else:
            check.awaiting_removal += len(unused)
    elif not scope.is_past_grace(*unused, folder.item):
        check.awaiting_removal += len(unused)
    elif folder.item is None:
        if unused:
            _judge_remains(store, check, ItemKeys(check.folder.year_keys, item_id))
    else:
        check.orphans += [info.key for info in unused]
        check.findings += [Finding(Problem.ORPHAN, info.key, "no item links it") for info in unused]


def _judge_remains(store: ObjectStore, check: YearCheck, keys: ItemKeys) -> None:
    """Files without their item's document: they are given the grace period of a broken item."""
    doubt = find_absence(store, keys.item)
    if doubt is not None:
        check.findings.append(doubt)
        return
    finding = Finding(Problem.BROKEN_ITEM, keys.item, "is not there, and its files are")
    check.findings.append(finding)
    check.broken[keys.item_id] = BrokenItem(str(finding))
