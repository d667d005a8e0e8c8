"""Checking one catalog that links other catalogs."""

from __future__ import annotations

from collections.abc import Iterator

from flows.ports import ObjectStore, StoredObject
from flows.publish.branches import Branch, Document, read_children, read_document
from flows.publish.catalogs import collection_branch, find_coverage
from flows.publish.findings import Finding, Problem
from flows.publish.reading import CouldNotRead, looking_at, read
from flows.stac.coverage import Coverage
from flows.stac.encoding import encode_document
from flows.stac.layout import COLLECTION_KEY
from flows.stac.links import CatalogContext


def check_branch(
    store: ObjectStore, branch: Branch, children: frozenset[str], unsure: frozenset[str]
) -> Iterator[Finding]:
    """Find what is wrong with the catalog, if anything.

    ``children`` are those that have a catalog. The ``unsure`` ones may be linked or not: below them a
    living writer publishes, or they could not be looked at.

    Raises:
        CouldNotRead: the catalog, or what lies beside it.
    """
    stored = read(store, branch.key)
    if stored is None:
        if children - unsure:
            yield Finding(
                Problem.MISSING_CATALOG, branch.key, f"catalogs that it should link: {len(children)}"
            )
        return
    document = read_document(stored)
    if document is None:
        yield Finding(Problem.UNREADABLE, branch.key, "is not a catalog")
        return
    linked = read_children(document)
    dangling = set(_find_dangling(store, branch, linked - children - unsure))
    for name in sorted(dangling):
        yield Finding(Problem.DANGLING_LINK, branch.key, f"links {name:.40}, whose catalog is not there")
    for name in sorted(children - linked - unsure):
        yield Finding(Problem.STALE_CATALOG, branch.key, f"does not link {name}")
    with looking_at(branch.folder):
        expected = encode_document(branch.build(sorted(linked - dangling)))
    if stored.body != expected:
        yield Finding(Problem.STALE_CATALOG, branch.key, "is not what its children give")


def check_collection(
    store: ObjectStore,
    context: CatalogContext,
    bands: frozenset[str],
    unsure: frozenset[str],
    needed: Coverage | None,
) -> Iterator[Finding]:
    """Find what is wrong with the collection; ``needed`` is what it has to cover at least.

    Raises:
        CouldNotRead: the collection, or what lies beside it.
    """
    document = read_document(read(store, COLLECTION_KEY))
    covered = find_coverage(document)
    yield from check_branch(store, collection_branch(store, context, covered, document), bands, unsure)
    if document is not None and needed is not None and (covered is None or covered.merge(needed) != covered):
        yield Finding(Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries lack some item")


def check_extent(before: StoredObject | None, allowed: Coverage | None) -> Iterator[Finding]:
    """Find that the collection covered more, before its items were listed, than they all together."""
    covered = find_coverage(read_document(before))
    if covered is not None and (allowed is None or allowed.merge(covered) != allowed):
        yield Finding(
            Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries cover more than its items"
        )


def find_linked(store: ObjectStore, branch: Branch) -> frozenset[str]:
    """Names of the children that the catalog links now; none where it is broken."""
    document: Document | None = read_document(store.read_object(branch.key))
    return frozenset(read_children(document) if document else ())


def _find_dangling(store: ObjectStore, branch: Branch, names: set[str]) -> Iterator[str]:
    """Names of those whose catalog is not there; listings that do not show one that is there are in doubt."""
    for name in sorted(names):
        with looking_at(f"{branch.folder}{name:.40}/catalog.json"):
            if not branch.holds(store, name):
                yield name
            elif name not in set(store.list_folders(branch.folder)):
                raise CouldNotRead(f"{branch.folder}{name}/", "is there, and listings do not show it")
