"""Checking one leaf: its catalog, its items and what lies in their folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from flows.errors import CloudmaskError
from flows.ports import ObjectInfo, ObjectStore, StoredObject
from flows.publish.catalogs import merge_coverages
from flows.publish.findings import Finding, Problem
from flows.publish.generations import find_unsettled
from flows.publish.item_check import ItemCheck, check_item
from flows.publish.leaf import ItemFolder, LeafFolder
from flows.stac.catalog import build_year_catalog
from flows.stac.coverage import Coverage
from flows.stac.encoding import decode_document, encode_document
from flows.stac.layout import ItemKeys
from flows.stac.links import CatalogContext

GRACE = timedelta(days=7)
"""How long an object that is of no use any more is kept: readers may hold an older item or catalog."""

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


@dataclass(slots=True)
class LeafCheck:
    """What one leaf is, and what a repair has to do about it.

    ``broken`` are items to be published anew, with the reason; ``withdrawn`` those whose grace period
    is over; ``orphans`` keys of no use; ``unlinked`` items that older generations' links should reach.
    """

    folder: LeafFolder
    findings: list[Finding] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    withdrawn: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    unlinked: list[str] = field(default_factory=list)
    awaiting_removal: int = 0
    items: int = 0
    files: int = 0
    has_catalog: bool = False
    coverage: Coverage | None = None


@dataclass(frozen=True, slots=True)
class Checker:
    """What every leaf is checked with; ``map_items`` may check the items of a leaf side by side."""

    store: ObjectStore
    context: CatalogContext
    map_items: MapItems = map


def check_leaf(checker: Checker, folder: LeafFolder, catalog: StoredObject | None, scope: Scope) -> LeafCheck:
    """The leaf as ``folder`` lists it below ``catalog``."""
    check = LeafCheck(folder, has_catalog=catalog is not None)
    present = [item_id for item_id, item in sorted(folder.folders.items()) if item.item is not None]
    work = partial(check_item, checker.store, folder)
    checks = list(checker.map_items(work, present))
    for item in checks:
        check.findings.extend(item.findings)
        if item.is_broken:
            check.broken[item.keys.item_id] = str(item.findings[0])
    check.items, check.files = len(checks), sum(len(item.files) for item in checks)
    # Those of living writers are not in the collection's summaries yet.
    counted = [item for item in checks if item.keys.item_id not in scope.pending]
    check.coverage = merge_coverages(item.coverage for item in counted if item.coverage is not None)
    check.findings.extend(_check_catalog(checker.context, check, catalog, checks, scope))
    check.findings.extend(_check_versions(check, checks, scope))
    used = {item.keys.item_id: item.files for item in checks}
    for item_folder in folder.folders.values():
        _check_leftovers(check, item_folder, used.get(item_folder.item_id, set()), scope)
    for stray in folder.strays:
        check.findings.append(Finding(Problem.STRAY, stray.key, "is no object of this catalog: look at it"))
    return check


def _check_catalog(
    context: CatalogContext,
    check: LeafCheck,
    catalog: StoredObject | None,
    items: list[ItemCheck],
    scope: Scope,
) -> Iterator[Finding]:
    key, folder = check.folder.leaf.catalog, check.folder
    expected = set(folder.linked_ids)
    if catalog is None:
        if expected - scope.pending:
            yield Finding(Problem.MISSING_CATALOG, key, f"{len(expected)} items are not linked")
        return
    ids = _read_item_ids(catalog)
    if ids is None:
        yield Finding(Problem.UNREADABLE, key, "is not a catalog")
        return
    linked = set(ids)
    reached = linked | {older for item in items for older in item.predecessors}
    for item_id in sorted(linked):
        if folder.folders.get(item_id, ItemFolder(item_id)).item is None:
            yield Finding(Problem.DANGLING_LINK, key, f"links {item_id}, which is not there")
    if len(ids) != len(linked):
        yield Finding(Problem.REPEATED_LINK, key, "links an item twice")
    for item_id, item in sorted(folder.folders.items()):
        if item.is_published and item_id not in reached | scope.pending:
            check.unlinked.append(item_id)
            yield Finding(Problem.UNLINKED_ITEM, ItemKeys(folder.leaf, item_id).item, f"{key} lacks it")
    same = catalog.body == encode_document(build_year_catalog(context, folder.leaf, sorted(linked)))
    if not same or linked - expected:
        yield Finding(Problem.STALE_CATALOG, key, "is not what its items give")


def _check_versions(check: LeafCheck, items: list[ItemCheck], scope: Scope) -> Iterator[Finding]:
    """Versions that a dead writer left unsettled, and items that it published again and did not restore."""
    folder = check.folder
    starts = {item.keys.item_id: item.start for item in items if not item.is_broken}
    for older, newer in find_unsettled(starts, folder.linked_ids):
        if not scope.pending.intersection((older, newer)):
            check.unlinked.append(newer)
            detail = f"is a newer version of {older}, which no mark says"
            yield Finding(Problem.UNSETTLED_VERSION, ItemKeys(folder.leaf, newer).item, detail)
    for item in items:
        item_id = item.keys.item_id
        is_restored = item.is_current and not item.is_broken and folder.folders[item_id].is_withdrawn
        if is_restored and item_id not in scope.pending:
            check.unlinked.append(item_id)
            yield Finding(Problem.UNLINKED_ITEM, item.keys.item, "was published again after it was withdrawn")


def _read_item_ids(catalog: StoredObject) -> list[str] | None:
    """Ids of the items that the catalog links; None where it is none."""
    try:
        links = decode_document(catalog.body, catalog.key)["links"]
        return [link["href"].split("/")[-2] for link in links if link["rel"] == "item"]
    except (CloudmaskError, LookupError, TypeError, AttributeError):
        return None


def _check_leftovers(check: LeafCheck, folder: ItemFolder, used: set[str], scope: Scope) -> None:
    """Sort the objects that no item links into those that may go and those that may be wanted yet."""
    is_withdrawn = folder.is_withdrawn and folder.item_id not in check.unlinked
    if is_withdrawn and folder.item is not None and scope.is_past_grace(*folder.objects.values()):
        check.withdrawn.append(folder.item_id)
        return
    for name, info in folder.objects.items():
        is_mark = name.endswith(".json")
        if is_mark or info.key in used:
            continue
        if folder.item_id in scope.pending or not scope.is_past_grace(info, folder.item):
            check.awaiting_removal += 1
            continue
        check.orphans.append(info.key)
        check.findings.append(Finding(Problem.ORPHAN, info.key, "no item links it"))
