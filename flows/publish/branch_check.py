"""Checking one catalog that links other catalogs."""

from __future__ import annotations

from collections.abc import Iterator

from flows.ports import ObjectStore
from flows.publish.branches import Branch, read_children, read_document
from flows.publish.catalogs import collection_branch, find_coverage
from flows.publish.findings import Finding, Problem
from flows.stac.coverage import Coverage
from flows.stac.encoding import encode_document
from flows.stac.layout import COLLECTION_KEY
from flows.stac.links import CatalogContext


def check_branch(
    store: ObjectStore, branch: Branch, children: frozenset[str], busy: frozenset[str]
) -> Iterator[Finding]:
    """What is wrong with the catalog, if anything.

    ``children`` are those that have a catalog; below the ``busy`` ones a living writer publishes, so
    that they may be linked any moment.
    """
    stored = store.read_object(branch.key)
    if stored is None:
        if children - busy:
            yield Finding(Problem.MISSING_CATALOG, branch.key, f"{len(children)} catalogs are not linked")
        return
    document = read_document(stored)
    if document is None:
        yield Finding(Problem.UNREADABLE, branch.key, "is not a catalog")
        return
    linked = read_children(document)
    dangling = {name for name in linked - children if not branch.holds(store, name)}
    for name in sorted(dangling):
        yield Finding(Problem.DANGLING_LINK, branch.key, f"links {name:.40}, whose catalog is not there")
    for name in sorted(children - linked - busy):
        yield Finding(Problem.STALE_CATALOG, branch.key, f"does not link {name}")
    if stored.body != encode_document(branch.build(sorted(linked - dangling))):
        yield Finding(Problem.STALE_CATALOG, branch.key, "is not what its children give")


def check_collection(
    store: ObjectStore,
    context: CatalogContext,
    bands: frozenset[str],
    busy: frozenset[str],
    exact: Coverage | None,
) -> Iterator[Finding]:
    """What is wrong with the collection; ``exact`` is what its items cover, and it may say more."""
    document = read_document(store.read_object(COLLECTION_KEY))
    covered = find_coverage(document)
    yield from check_branch(store, collection_branch(store, context, covered, document), bands, busy)
    if document is not None and exact is not None and (covered is None or covered.merge(exact) != covered):
        yield Finding(Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries lack some item")
