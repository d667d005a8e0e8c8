"""Writing the catalogs above the items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from flows.errors import StoreUnavailable
from flows.ports import ObjectStore, StoredObject
from flows.publish.branches import (
    BAND_FORM,
    Branch,
    Document,
    band_branch,
    read_children,
    read_document,
    tile_branch,
)
from flows.publish.generations import list_unsettled, settle_steps
from flows.publish.leaf import list_leaf
from flows.publish.steps import Step, StepName, Steps, swap_steps
from flows.stac.catalog import build_collection, build_root_catalog, build_year_catalog
from flows.stac.coverage import Coverage, read_collection_coverage
from flows.stac.encoding import encode_document
from flows.stac.layout import CATALOG_KEY, COLLECTION_KEY, ITEMS_PREFIX, ItemKeys, LeafKeys
from flows.stac.links import CatalogContext

#: More than writers that publish versions of one year's scenes at the same time could make it take.
_SETTLE_ATTEMPTS = 100
MIRROR_SUFFIX = ".parquet"
RETIRED_SUFFIX = ".retired"
"""Ends the key of a mark beside a part of the mirror that the collection no longer lists."""


def catalog_stages(
    store: ObjectStore,
    context: CatalogContext,
    coverages: Mapping[ItemKeys, Coverage],
    markers: Iterable[str] = (),
) -> Iterator[Sequence[Steps]]:
    """The steps that link published items, from the leaves up to the root, then drop ``markers`` of theirs.

    A stage may begin once every step of the one before is done; within a stage the order is free.
    ``coverages`` holds what each item adds to the collection.
    """
    leaves = {keys.leaf for keys in coverages}
    yield [leaf_steps(store, context, leaf) for leaf in sorted(leaves, key=lambda leaf: leaf.prefix)]
    years, tiles = _group_names(leaves)
    yield [branch_steps(store, tile_branch(context, tile), own) for tile, own in years.items()]
    yield [branch_steps(store, band_branch(context, band), own) for band, own in tiles.items()]
    yield [
        collection_steps(store, context, {leaf.band for leaf in leaves}, merge_coverages(coverages.values()))
    ]
    yield [root_steps(store, context)]
    yield [unmark_steps(store, key) for key in markers]


def leaf_steps(store: ObjectStore, context: CatalogContext, leaf: LeafKeys) -> Steps:
    """Make the leaf's catalog link what a listing shows to be complete, of each scene the newest.

    Raises:
        StoreUnavailable: trying again is harmless.
    """
    unsettled: list[ItemKeys] = []

    def render(_: StoredObject | None) -> bytes | None:
        folder = list_leaf(store, leaf)
        unsettled[:] = list_unsettled(store, folder)
        return None if unsettled else encode_document(build_year_catalog(context, leaf, folder.linked_ids))

    for _ in range(_SETTLE_ATTEMPTS):
        yield from swap_steps(store, leaf.catalog, render, confirm=True)
        if not unsettled:
            return
        for keys in unsettled:
            yield from settle_steps(store, context, keys)
    raise StoreUnavailable(f"{leaf.catalog}: its items changed {_SETTLE_ATTEMPTS} times: try again")


def find_missing(store: ObjectStore, leaf: LeafKeys, ids: set[str]) -> list[ItemKeys]:
    """Return those of the published ``ids`` that the leaf's catalog neither links nor has a newer version of.

    One whose withdrawn marker is there still is missing too.
    """
    unlinked = ids - read_item_ids(read_document(store.read_object(leaf.catalog)))
    if not unlinked:
        return []
    folder = list_leaf(store, leaf)
    withdrawn = {item_id for item_id, each in folder.folders.items() if each.is_withdrawn}
    return [ItemKeys(leaf, item_id) for item_id in sorted(unlinked & withdrawn.union(folder.linked_ids))]


def read_item_ids(catalog: Document | None) -> frozenset[str]:
    """Return the ids of the items that a year's catalog links; none of a broken one."""
    try:
        links = catalog["links"] if catalog else ()
        return frozenset(link["href"].split("/")[-2] for link in links if link["rel"] == "item")
    except (LookupError, TypeError, AttributeError):
        return frozenset()


def branch_steps(store: ObjectStore, branch: Branch, own: set[str], *, rebuild: bool = False) -> Steps:
    """Make the branch's catalog link ``own``, whose catalogs exist; one that does already is left alone.

    With ``rebuild`` nothing is taken from the present document, and it is written whatever it links.
    """

    def render(current: StoredObject | None) -> bytes:
        document = None if rebuild else read_document(current)
        if current is not None and document is not None and own <= read_children(document):
            return current.body
        return encode_document(branch.build(branch.find_children(store, document, own)))

    return swap_steps(store, branch.key, render)


def collection_steps(
    store: ObjectStore,
    context: CatalogContext,
    bands: set[str],
    coverage: Coverage | None,
    *,
    rebuild: bool = False,
) -> Steps:
    """Make the collection link ``bands`` and cover ``coverage`` beside what it covers already."""

    def render(current: StoredObject | None) -> bytes:
        document = read_document(current)
        merged = merge_coverages(filter(None, (find_coverage(document), coverage)))
        branch = collection_branch(store, context, merged)
        names = branch.find_children(store, None if rebuild else document, bands)
        return encode_document(branch.build(names))

    return swap_steps(store, COLLECTION_KEY, render)


def collection_branch(store: ObjectStore, context: CatalogContext, coverage: Coverage | None) -> Branch:
    """The collection, which links its bands and the parts of the geoparquet mirror."""

    def build(names: Sequence[str]) -> Document:
        return build_collection(context, names, coverage, find_mirror_keys(store))

    return Branch(COLLECTION_KEY, BAND_FORM, build)


def root_steps(store: ObjectStore, context: CatalogContext) -> Steps:
    """Put the root catalog, which links the collection alone."""
    return swap_steps(store, CATALOG_KEY, lambda _: encode_document(build_root_catalog(context)))


def unmark_steps(store: ObjectStore, key: str) -> Steps:
    """Remove the marker of an item that every catalog above it links."""
    store.delete_object(key)
    yield Step(StepName.UNMARK, key)


def find_mirror_keys(store: ObjectStore) -> tuple[str, ...]:
    """Keys of the geoparquet mirror's parts, in order, without those that others have taken the place of."""
    keys = [info.key for info in store.list_objects(ITEMS_PREFIX)]
    retired = {key.removesuffix(RETIRED_SUFFIX) for key in keys if key.endswith(RETIRED_SUFFIX)}
    return tuple(key for key in keys if key.endswith(MIRROR_SUFFIX) and key not in retired)


def find_coverage(collection: Document | None) -> Coverage | None:
    """What a collection says it covers; None of none, of an empty and of a broken one."""
    return None if collection is None else read_collection_coverage(collection)


def merge_coverages(coverages: Iterable[Coverage]) -> Coverage | None:
    """All of them in one; None of none."""
    merged: Coverage | None = None
    for coverage in coverages:
        merged = coverage if merged is None else merged.merge(coverage)
    return merged


def _group_names(leaves: Iterable[LeafKeys]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Names of the years by tile, and of the tiles by band."""
    years: dict[str, set[str]] = {}
    tiles: dict[str, set[str]] = {}
    for leaf in leaves:
        years.setdefault(leaf.tile, set()).add(f"{leaf.year:04d}")
        tiles.setdefault(leaf.band, set()).add(leaf.tile)
    return years, tiles
