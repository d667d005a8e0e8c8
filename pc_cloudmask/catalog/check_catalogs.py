"""Check the catalogs: each year with its items and the contents of their folders, and those above the years."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from pc_cloudmask.catalog.check_item import ItemCheck, check_item
from pc_cloudmask.catalog.documents import (
    Coverage,
    build_root_catalog,
    build_year_catalog,
    merge_coverages,
    read_collection_coverage,
)
from pc_cloudmask.catalog.fields import (
    CatalogContext,
    decode_document,
    encode_document,
    find_public_url,
    read_document,
)
from pc_cloudmask.catalog.findings import (
    CouldNotRead,
    Finding,
    Problem,
    check_length,
    explain_error,
    find_absence,
    looking_at,
    read,
    read_catalog,
)
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_KEY, PENDING_PREFIX, WITHDRAWN_NAME, ItemKeys
from pc_cloudmask.catalog.parents import ParentCatalog, collection_parent
from pc_cloudmask.catalog.states import LEASE, list_markers, read_marker
from pc_cloudmask.catalog.versions import (
    find_unsettled,
    order_version,
    read_scene_prefix,
    read_withdrawn_marker,
)
from pc_cloudmask.catalog.walk import ItemFolder, YearFolder, list_links, read_children, superseded_name
from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.scene.scene import is_item_id
from pc_cloudmask.storage.store import PROBE_FORM, PROBE_PREFIX, ObjectInfo, ObjectStore, StoredObject

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

    def keys(self, item_id: str) -> ItemKeys:
        """Return the keys of an item of this year."""
        return ItemKeys(self.folder.year_keys, item_id)

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
    item_id, is_pending = item.keys.item_id, item.keys.item_id in checker.pending
    if check.folder.folders[item_id].is_withdrawn and not item.is_unread:
        # Whatever the marker says: withdrawing an item removes its fingerprint.
        if is_pending or item.fingerprint is None:
            return
        if not item.is_broken:
            _restore(check, item.keys)
            return
        # A repair died before it removed the fingerprint, which would keep ``ingest`` from publishing the scene.
    check.findings.extend(item.findings)
    if item.is_broken and not is_pending:
        check.broken[item_id] = BrokenItem(item.fault, item.digest)
    elif item.lost and not item.fault and not is_pending:
        check.dangling.append(item_id)
        check.report(Problem.DANGLING_LINK, item.keys.item, f"links {item.lost}, which is not there")


def _restore(check: YearCheck, keys: ItemKeys, fingerprint: str | None = None) -> None:
    check.restored[keys.item_id] = fingerprint
    reason = "is marked as withdrawn, was not withdrawn by its source, and is sound"
    check.report(Problem.UNLINKED_ITEM, keys.item, reason)


def _sum_up(checker: Checker, check: YearCheck, items: Mapping[str, ItemCheck]) -> None:
    """Fill in the totals that follow from the items."""
    totals, folders = check.totals, check.folder.folders
    totals.items, totals.files = len(items), sum(len(item.files) for item in items.values())
    allowed = {item_id: item.coverage for item_id, item in items.items() if not item.is_broken}
    # Items of live writers are not in the collection's summaries yet.
    needed = {item_id for item_id in allowed if folders[item_id].is_published} - checker.pending
    totals.coverage = merge_coverages(allowed[item_id] for item_id in sorted(needed))
    totals.allowed = merge_coverages(allowed.values())
    totals.is_coverage_known = all(folders[item_id].is_withdrawn for item_id in items.keys() - allowed.keys())


def _check_versions(checker: Checker, check: YearCheck, items: Mapping[str, ItemCheck]) -> None:
    """Find invalid marks of newer versions, and older versions that lack the mark of a newer one.

    A mark that names its own item, an older version or another scene would hide its item forever.
    """
    folder = check.folder
    sound = {item_id: item for item_id, item in items.items() if folder.holds(item_id) and not item.fault}
    starts = {item_id: item.start for item_id, item in sound.items() if item_id not in checker.pending}
    for item_id in starts:
        for successor in folder.folders[item_id].successors:
            if successor in sound and not _is_newer_version(sound[successor], sound[item_id]):
                key = check.keys(item_id).prefix + superseded_name(successor)
                check.wrong_marks.append(key)
                text = f"names {successor}, which is no newer version of this scene"
                check.report(Problem.WRONG_MARK, key, text)
    for older, newer in find_unsettled(starts, folder.linked_ids):
        check.unlinked.append(newer)
        text = f"is a newer version of {older}, which no mark says"
        check.report(Problem.UNSETTLED_VERSION, check.keys(newer).item, text)


def _is_newer_version(other: ItemCheck, item: ItemCheck) -> bool:
    other_id, item_id = other.keys.item_id, item.keys.item_id
    is_same_scene = read_scene_prefix(other_id) == read_scene_prefix(item_id) and other.start == item.start
    return is_same_scene and other.start is not None and order_version(other_id) > order_version(item_id)


def _check_catalog(checker: Checker, check: YearCheck, items: Mapping[str, ItemCheck]) -> None:
    key, folder = check.folder.year_keys.catalog, check.folder
    expected = set(folder.linked_ids)
    try:
        catalog = read_catalog(checker.store, key)
    except CouldNotRead as error:
        check.findings.append(error.finding)
        check.is_in_doubt = True
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
    present = {item_id for item_id, each in check.folder.folders.items() if each.item is not None}
    for item_id in sorted(linked - present):
        doubt = find_absence(store, check.keys(item_id).item) if is_item_id(item_id) else None
        if doubt is not None:
            check.is_in_doubt = True
            check.doubtful.add(item_id)
        text = f"links {item_id:.128}, which is not there"
        check.findings.append(doubt or Finding(Problem.DANGLING_LINK, check.folder.year_keys.catalog, text))


def _check_reached(check: YearCheck, items: Mapping[str, ItemCheck], reached: set[str]) -> None:
    """Find published items that neither the catalog nor a newer version links."""
    reached = reached | {older for item in items.values() for older in item.predecessors}
    unread = check.doubtful.union(item_id for item_id, item in items.items() if item.is_unread)
    for item_id, item in sorted(check.folder.folders.items()):
        if item.is_published and item_id not in reached and not unread.intersection(item.successors):
            check.unlinked.append(item_id)
            keys = check.keys(item_id)
            check.report(Problem.UNLINKED_ITEM, keys.item, f"{keys.year_keys.catalog} lacks it")


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
            _judge_remains(checker.store, check, check.keys(item_id))
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
    keys = check.keys(folder.item_id)
    try:
        stored = read(checker.store, keys.withdrawn_marker)
        if stored is None:
            raise CouldNotRead(keys.withdrawn_marker, "was there a moment ago")
        withdrawn, fingerprint = read_withdrawn_marker(stored, keys)
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
    elif item is not None and not item.is_broken and fingerprint is not None:
        _restore(check, keys, fingerprint)
    elif withdrawn <= checker.now - GRACE and checker.is_past_grace(*folder.objects.values()):
        check.withdrawn.append(folder.item_id)
    else:
        check.totals.awaiting_removal += files


def _judge_remains(store: ObjectStore, check: YearCheck, keys: ItemKeys) -> None:
    """Give files whose item document is missing the grace period of a broken item."""
    doubt = find_absence(store, keys.item)
    finding = doubt or Finding(Problem.BROKEN_ITEM, keys.item, "is not there, and its files are")
    check.findings.append(finding)
    if doubt is None:
        check.broken[keys.item_id] = BrokenItem(str(finding))


@dataclass(frozen=True, slots=True)
class Children:
    """Names of a catalog's children: those ``present`` have a catalog.

    Those ``unsure`` may or may not be linked: a live writer is publishing below them, or they could not be read.
    """

    present: frozenset[str]
    unsure: frozenset[str]


def check_parent(store: ObjectStore, parent: ParentCatalog, children: Children) -> Iterator[Finding]:
    """Yield what is wrong with the catalog, if anything."""
    wanted = children.present - children.unsure
    stored = read_catalog(store, parent.key)
    document = read_document(stored)
    if stored is None or document is None:
        if stored is not None:
            yield Finding(Problem.UNREADABLE, parent.key, "is not a catalog")
        elif wanted:
            text = f"catalogs that it should link: {len(children.present)}"
            yield Finding(Problem.MISSING_CATALOG, parent.key, text)
        return
    linked = read_children(document)
    dangling = set(_find_dangling(store, parent, linked - children.present - children.unsure))
    for name in sorted(dangling):
        yield Finding(Problem.DANGLING_LINK, parent.key, f"links {name:.40}, whose catalog is not there")
    for name in sorted(wanted - linked):
        yield Finding(Problem.STALE_CATALOG, parent.key, f"does not link {name}")
    with looking_at(parent.folder):
        expected = encode_document(parent.build(sorted(linked - dangling)))
    if stored.body != expected:
        yield Finding(Problem.STALE_CATALOG, parent.key, "is not what its children give")


def check_collection(
    store: ObjectStore, context: CatalogContext, zones: Children, needed: Coverage | None
) -> Iterator[Finding]:
    """Yield what is wrong with the collection; ``needed`` is the least that it has to cover."""
    document = read_document(read_catalog(store, COLLECTION_KEY))
    covered = read_collection_coverage(document)
    yield from check_parent(store, collection_parent(store, context, covered, document), zones)
    if document is not None and needed is not None and (covered is None or covered.merge(needed) != covered):
        yield Finding(Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries lack some item")


def check_extent(before: StoredObject | None, allowed: Coverage | None) -> Iterator[Finding]:
    """Report a collection whose extent, before its items were listed, exceeded that of all of them together."""
    covered = read_collection_coverage(read_document(before))
    if covered is not None and (allowed is None or allowed.merge(covered) != allowed):
        yield Finding(
            Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries cover more than its items"
        )


def check_root(store: ObjectStore, context: CatalogContext, zones: Children) -> Iterator[Finding]:
    """Yield what is wrong with the root catalog."""
    stored = read_catalog(store, CATALOG_KEY)
    if stored is None:
        if zones.present - zones.unsure:
            yield Finding(Problem.MISSING_CATALOG, CATALOG_KEY, "the collection is not linked")
    elif stored.body != encode_document(build_root_catalog(context)):
        yield Finding(Problem.STALE_CATALOG, CATALOG_KEY, "is not what this program writes")


def check_public_url(store: ObjectStore, context: CatalogContext) -> None:
    """Raise ``SettingsError`` if there is a sound root catalog and it was written for another public URL."""
    stored = store.read_object(CATALOG_KEY)
    if stored is None:
        return
    try:
        public_url = find_public_url(decode_document(stored.body, CATALOG_KEY), CATALOG_KEY)
    except (CloudmaskError, LookupError, TypeError, AttributeError):
        return  # damaged: reported like any other finding
    other = CatalogContext(public_url)
    if other == context or stored.body != encode_document(build_root_catalog(other)):
        return
    advice = f"set it to {public_url}" if public_url else "unset it"
    raise SettingsError(
        f"CLOUDMASK_PUBLIC_URL: {CATALOG_KEY} was written for {public_url or 'relative links'}, not for "
        f"{context.public_url or 'relative links'}: {advice}, or publish again with ingest --force"
    )


def _find_dangling(store: ObjectStore, parent: ParentCatalog, names: AbstractSet[str]) -> Iterator[str]:
    """Yield the names whose catalog is missing; one that has not been checked is in doubt."""
    for name in sorted(names):
        with looking_at(f"{parent.folder}{name:.40}/catalog.json"):
            if not parent.holds(store, name):
                yield name
            elif name not in set(store.list_folders(parent.folder)):
                raise CouldNotRead(f"{parent.folder}{name}/", "is there, and listings do not show it")


@dataclass(frozen=True, slots=True)
class Markers:
    """Items of live writers, and keys of the markers that dead writers left.

    A marker that cannot be read counts as a live writer's, so its item is left alone.
    """

    live: frozenset[ItemKeys] = frozenset()
    pending: frozenset[str] = frozenset()
    stale: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def read_markers(store: ObjectStore, now: datetime) -> Markers:
    """Read every marker; a failed listing raises what the store raises."""
    live, unread, stale, findings = [], [], [], []
    for key in list_markers(store):
        try:
            with looking_at(key):
                marker = read_marker(store, key)
            stored = read(store, key) if marker is None else None
            if stored is not None:
                check_length(store, stored)
        except CouldNotRead as error:
            findings.append(error.finding)
            unread.append(key.removeprefix(PENDING_PREFIX).removesuffix(".json"))
            continue
        if marker is not None and not marker.is_stale(now):
            live.append(marker.keys)
        elif marker is not None or stored is not None:
            stale.append(key)
            findings.append(Finding(Problem.STALE_MARKER, key, "no living writer ends what it announces"))
    pending = frozenset(unread).union(keys.item_id for keys in live)
    return Markers(frozenset(live), pending, tuple(stale), tuple(findings))


def list_dead_probes(store: ObjectStore, now: datetime) -> list[str]:
    """Return the keys left by probes that were killed; a probe takes seconds, far less than a lease."""
    return [
        info.key
        for info in store.list_objects(PROBE_PREFIX)
        if PROBE_FORM.fullmatch(info.key) and info.modified is not None and info.modified + LEASE <= now
    ]
