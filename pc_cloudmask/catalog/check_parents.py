"""Checking one catalog that links other catalogs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pc_cloudmask.catalog.coverage import Coverage
from pc_cloudmask.catalog.fields import CatalogContext, Document, encode_document, read_document
from pc_cloudmask.catalog.findings import CouldNotRead, Finding, Problem, looking_at, read
from pc_cloudmask.catalog.layout import COLLECTION_KEY, PENDING_PREFIX, ItemKeys
from pc_cloudmask.catalog.parents import ParentCatalog, collection_parent, find_coverage, read_children
from pc_cloudmask.catalog.steps import list_markers, read_marker
from pc_cloudmask.storage.store import ObjectStore, StoredObject


def check_parent(
    store: ObjectStore, parent: ParentCatalog, children: frozenset[str], unsure: frozenset[str]
) -> Iterator[Finding]:
    """Find what is wrong with the catalog, if anything.

    ``children`` are those that have a catalog. The ``unsure`` ones may be linked or not: below them a
    living writer publishes, or they could not be looked at.

    Raises:
        CouldNotRead: the catalog, or what lies beside it.
    """
    stored = read(store, parent.key)
    if stored is None:
        if children - unsure:
            yield Finding(
                Problem.MISSING_CATALOG, parent.key, f"catalogs that it should link: {len(children)}"
            )
        return
    document = read_document(stored)
    if document is None:
        yield Finding(Problem.UNREADABLE, parent.key, "is not a catalog")
        return
    linked = read_children(document)
    dangling = set(_find_dangling(store, parent, linked - children - unsure))
    for name in sorted(dangling):
        yield Finding(Problem.DANGLING_LINK, parent.key, f"links {name:.40}, whose catalog is not there")
    for name in sorted(children - linked - unsure):
        yield Finding(Problem.STALE_CATALOG, parent.key, f"does not link {name}")
    with looking_at(parent.folder):
        expected = encode_document(parent.build(sorted(linked - dangling)))
    if stored.body != expected:
        yield Finding(Problem.STALE_CATALOG, parent.key, "is not what its children give")


def check_collection(
    store: ObjectStore,
    context: CatalogContext,
    zones: frozenset[str],
    unsure: frozenset[str],
    needed: Coverage | None,
) -> Iterator[Finding]:
    """Find what is wrong with the collection; ``needed`` is what it has to cover at least.

    Raises:
        CouldNotRead: the collection, or what lies beside it.
    """
    document = read_document(read(store, COLLECTION_KEY))
    covered = find_coverage(document)
    yield from check_parent(store, collection_parent(store, context, covered, document), zones, unsure)
    if document is not None and needed is not None and (covered is None or covered.merge(needed) != covered):
        yield Finding(Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries lack some item")


def check_extent(before: StoredObject | None, allowed: Coverage | None) -> Iterator[Finding]:
    """Find that the collection covered more, before its items were listed, than they all together."""
    covered = find_coverage(read_document(before))
    if covered is not None and (allowed is None or allowed.merge(covered) != allowed):
        yield Finding(
            Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries cover more than its items"
        )


def find_linked(store: ObjectStore, parent: ParentCatalog) -> frozenset[str]:
    """Names of the children that the catalog links now; none where it is broken."""
    document: Document | None = read_document(store.read_object(parent.key))
    return frozenset(read_children(document) if document else ())


def _find_dangling(store: ObjectStore, parent: ParentCatalog, names: set[str]) -> Iterator[str]:
    """Names of those whose catalog is not there; listings that do not show one that is there are in doubt."""
    for name in sorted(names):
        with looking_at(f"{parent.folder}{name:.40}/catalog.json"):
            if not parent.holds(store, name):
                yield name
            elif name not in set(store.list_folders(parent.folder)):
                raise CouldNotRead(f"{parent.folder}{name}/", "is there, and listings do not show it")


@dataclass(frozen=True, slots=True)
class Markers:
    """What living writers are at, and keys of what dead ones left.

    A marker that cannot be read is taken for a living writer's, so its item is left alone.
    """

    live: frozenset[ItemKeys] = frozenset()
    pending: frozenset[str] = frozenset()
    stale: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def read_markers(store: ObjectStore, now: datetime) -> Markers:
    """Read every marker.

    Raises:
        StoreUnavailable, StoreRefused: they cannot be listed.
    """
    live, unread, stale, findings = [], [], [], []
    for key in list_markers(store):
        try:
            with looking_at(key):
                marker = read_marker(store, key)
                is_gone = marker is None and store.find_object(key) is None
        except CouldNotRead as error:
            findings.append(error.finding)
            unread.append(key.removeprefix(PENDING_PREFIX).removesuffix(".json"))
            continue
        if marker is not None and not marker.is_stale(now):
            live.append(marker.keys)
        elif not is_gone:
            stale.append(key)
            findings.append(Finding(Problem.STALE_MARKER, key, "no living writer ends what it announces"))
    pending = frozenset(unread).union(keys.item_id for keys in live)
    return Markers(frozenset(live), pending, tuple(stale), tuple(findings))
