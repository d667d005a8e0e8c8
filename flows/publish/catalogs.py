"""Writing the catalogs above the items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from flows.errors import CloudmaskError
from flows.ports import ObjectStore, StoredObject
from flows.publish.leaf import list_leaf
from flows.publish.steps import Step, StepName, Steps, swap_steps
from flows.stac.catalog import (
    CatalogContext,
    build_band_catalog,
    build_collection,
    build_root_catalog,
    build_tile_catalog,
    build_year_catalog,
)
from flows.stac.coverage import Coverage, read_collection_coverage
from flows.stac.encoding import decode_document, encode_document
from flows.stac.layout import (
    CATALOG_KEY,
    COLLECTION_ID,
    COLLECTION_KEY,
    ITEMS_PREFIX,
    ItemKeys,
    LeafKeys,
    pending_key,
)

Document = dict[str, Any]


def catalog_stages(
    store: ObjectStore, context: CatalogContext, coverages: Mapping[ItemKeys, Coverage]
) -> Iterator[Sequence[Steps]]:
    """The steps that link published items, from the leaves up to the root, then drop their markers.

    A stage may begin once every step of the one before is done; within a stage the order is free.
    ``coverages`` holds what each item adds to the collection.
    """
    leaves = {keys.leaf for keys in coverages}
    yield [leaf_steps(store, context, leaf) for leaf in sorted(leaves, key=lambda leaf: leaf.prefix)]
    yield [tile_steps(store, context, tile, years) for tile, years in _years_by_tile(leaves).items()]
    yield [band_steps(store, context, band, tiles) for band, tiles in _tiles_by_band(leaves).items()]
    yield [
        collection_steps(store, context, {leaf.band for leaf in leaves}, merge_coverages(coverages.values()))
    ]
    yield [root_steps(store, context)]
    yield [unmark_steps(store, keys) for keys in coverages]


def leaf_steps(store: ObjectStore, context: CatalogContext, leaf: LeafKeys) -> Steps:
    """Make the leaf's catalog link exactly the items that a listing shows to be complete."""

    def render(_: StoredObject | None) -> bytes:
        return encode_document(build_year_catalog(context, leaf, list_leaf(store, leaf).linked_ids))

    return swap_steps(store, leaf.catalog, render)


def tile_steps(store: ObjectStore, context: CatalogContext, tile: str, years: Iterable[int]) -> Steps:
    """Make the tile's catalog link ``years``, whose catalogs exist."""
    key = LeafKeys(tile, 0).tile_catalog

    def render(current: StoredObject | None) -> bytes:
        names = find_children(store, key, _read(current), {f"{year:04d}" for year in years})
        return encode_document(build_tile_catalog(context, tile, [int(name) for name in names]))

    return swap_steps(store, key, _unless_linked(render, {f"{year:04d}" for year in years}))


def band_steps(store: ObjectStore, context: CatalogContext, band: str, tiles: set[str]) -> Steps:
    """Make the band's catalog link ``tiles``, whose catalogs exist."""
    key = f"{COLLECTION_ID}/{band}/catalog.json"

    def render(current: StoredObject | None) -> bytes:
        return encode_document(
            build_band_catalog(context, band, find_children(store, key, _read(current), tiles))
        )

    return swap_steps(store, key, _unless_linked(render, tiles))


def collection_steps(
    store: ObjectStore, context: CatalogContext, bands: set[str], coverage: Coverage | None
) -> Steps:
    """Make the collection link ``bands`` and cover ``coverage`` beside what it covers already."""

    def render(current: StoredObject | None) -> bytes:
        document = _read(current)
        covered = read_collection_coverage(document) if document else None
        merged = merge_coverages(part for part in (covered, coverage) if part is not None)
        names = find_children(store, COLLECTION_KEY, document, bands)
        return encode_document(build_collection(context, names, merged, find_mirror_keys(store)))

    return swap_steps(store, COLLECTION_KEY, render)


def root_steps(store: ObjectStore, context: CatalogContext) -> Steps:
    """Put the root catalog, which links the collection alone."""
    return swap_steps(store, CATALOG_KEY, lambda _: encode_document(build_root_catalog(context)))


def unmark_steps(store: ObjectStore, keys: ItemKeys) -> Steps:
    """Remove the marker of an item that every catalog above it links."""
    key = pending_key(keys.item_id)
    store.delete_object(key)
    yield Step(StepName.UNMARK, key)


def find_children(store: ObjectStore, key: str, document: Document | None, own: set[str]) -> list[str]:
    """Names of the folders beside ``key`` that hold a catalog, sorted.

    A folder may be there before its catalog: another writer's first file. Such a one is not
    linked. ``own`` are known to have theirs, and so are those that ``document`` links.
    """
    folder = key.rpartition("/")[0] + "/"
    proven = own | (read_children(document) if document else set())
    listed = set(store.list_folders(folder)) - {ITEMS_PREFIX.removeprefix(folder).rstrip("/")}
    return sorted(
        name
        for name in listed | own
        if name in proven or store.find_object(f"{folder}{name}/catalog.json") is not None
    )


def find_mirror_keys(store: ObjectStore) -> tuple[str, ...]:
    """Keys of the geoparquet mirror's parts, in order."""
    return tuple(info.key for info in store.list_objects(ITEMS_PREFIX) if info.key.endswith(".parquet"))


def read_children(document: Document) -> set[str]:
    """Folder names of the catalogs that ``document`` links as children."""
    return {
        link["href"].split("/")[-2]
        for link in document.get("links", ())
        if link.get("rel") == "child" and "/" in link.get("href", "")
    }


def merge_coverages(coverages: Iterable[Coverage]) -> Coverage | None:
    """All of them in one; None of none."""
    merged: Coverage | None = None
    for coverage in coverages:
        merged = coverage if merged is None else merged.merge(coverage)
    return merged


def _unless_linked(
    render: Callable[[StoredObject | None], bytes], own: set[str]
) -> Callable[[StoredObject | None], bytes]:
    """``render``, spared where the present document links ``own`` already: the usual case."""

    def spare(current: StoredObject | None) -> bytes:
        document = _read(current)
        if current is not None and document is not None and own <= read_children(document):
            return current.body
        return render(current)

    return spare


def _read(current: StoredObject | None) -> Document | None:
    """The present document; None where there is none or it cannot be read, so it is made anew."""
    if current is None:
        return None
    try:
        return decode_document(current.body, current.key)
    except CloudmaskError:
        return None


def _years_by_tile(leaves: Iterable[LeafKeys]) -> dict[str, set[int]]:
    grouped: dict[str, set[int]] = {}
    for leaf in leaves:
        grouped.setdefault(leaf.tile, set()).add(leaf.year)
    return grouped


def _tiles_by_band(leaves: Iterable[LeafKeys]) -> dict[str, set[str]]:
    grouped: dict[str, set[str]] = {}
    for leaf in leaves:
        grouped.setdefault(leaf.band, set()).add(leaf.tile)
    return grouped
