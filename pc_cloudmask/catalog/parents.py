"""Write the catalogs above the items."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

from pc_cloudmask.catalog.documents import (
    Coverage,
    build_collection,
    build_root_catalog,
    build_tile_catalog,
    build_year_catalog,
    build_zone_catalog,
    merge_coverages,
    read_collection_coverage,
)
from pc_cloudmask.catalog.feed import Change, Feed, tell_steps
from pc_cloudmask.catalog.fields import CatalogContext, Document, encode_document, read_document
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    COLLECTION_KEY,
    ITEMS_PREFIX,
    MIRROR_PART_FORM,
    STYLE_KEY,
    TILE_INDEX_KEY,
    ItemKeys,
    YearKeys,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.catalog.states import Step, StepName, Steps, swap_steps
from pc_cloudmask.catalog.versions import list_unsettled, list_year_versions, settle_steps
from pc_cloudmask.catalog.walk import (
    YEAR_FORM,
    ZONE_FORM,
    holds_object,
    list_year,
    read_children,
    read_linked_items,
    read_mirror_keys,
)
from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.scene.scene import TILE_FORM
from pc_cloudmask.storage.store import ObjectStore, StoredObject

#: More rounds than any realistic number of writers that publish versions in one year at the same time needs.
_SETTLE_ATTEMPTS = 100
MIRROR_SUFFIX = ".parquet"
#: Suffix of the mark next to a part of the mirror that the collection no longer lists.
RETIRED_SUFFIX = ".retired"


@dataclass(frozen=True, slots=True)
class ParentCatalog:
    """The catalog at ``key``; its children are neighbouring folders with a catalog, and a name that matches ``form``.

    ``build`` returns the document that links the children with the given names.
    """

    key: str
    form: re.Pattern[str]
    build: Callable[[Sequence[str]], Document]

    @property
    def folder(self) -> str:
        """Its folder, with a trailing slash."""
        return f"{self.key.rpartition('/')[0]}/"

    def holds(self, store: ObjectStore, name: str) -> bool:
        """Return True if the child of that name has a catalog."""
        return bool(self.form.fullmatch(name)) and holds_object(store, f"{self.folder}{name}/catalog.json")

    def find_children(
        self, store: ObjectStore, document: Document | None, own: AbstractSet[str], *, rebuild: bool = False
    ) -> list[str]:
        """Return the names of the children, sorted.

        A folder may exist before its catalog does, when another writer has put its first file there; it is not linked.
        Children in ``own`` are known to have a catalog, and so are those that ``document`` links, except with
        ``rebuild``. A linked child is dropped only if the listing lacks it and its catalog is absent. Without a
        document, two listings are combined instead.
        """
        linked = read_children(document)
        proven = set() if rebuild else linked
        listed = {name for _ in range(1 if document else 2) for name in store.list_folders(self.folder)}
        return sorted(
            name
            for name in listed | linked | own
            if name in own or name in listed & proven or self.holds(store, name)
        )


def tile_parent(context: CatalogContext, tile: str) -> ParentCatalog:
    """Return the catalog of a tile, which links its years."""
    build = partial(build_tile_catalog, context, tile)
    return ParentCatalog(
        tile_catalog_key(tile), YEAR_FORM, lambda names: build([int(name) for name in names])
    )


def zone_parent(context: CatalogContext, zone: str) -> ParentCatalog:
    """Return the catalog of a zone, which links its tiles."""
    form = re.compile(f"(?={zone}){TILE_FORM.pattern}")
    return ParentCatalog(zone_catalog_key(zone), form, partial(build_zone_catalog, context, zone))


def collection_parent(
    store: ObjectStore, context: CatalogContext, coverage: Coverage | None, current: Document | None
) -> ParentCatalog:
    """Return the collection, which links its zones, the parts of the geoparquet mirror and the tile index."""

    def build(names: Sequence[str]) -> Document:
        mirror = find_mirror_keys(store, current)
        # Only with a mirror, so that a catalog without one is spared the request.
        has_index = bool(mirror) and store.find_object(TILE_INDEX_KEY) is not None
        index = (TILE_INDEX_KEY, STYLE_KEY) if has_index else ()
        return build_collection(context, names, coverage, (*mirror, *index))

    return ParentCatalog(COLLECTION_KEY, ZONE_FORM, build)


def catalog_stages(
    store: ObjectStore, context: CatalogContext, coverages: Mapping[ItemKeys, Coverage]
) -> Iterator[Sequence[Steps]]:
    """Yield the steps that link published items, from the years up to the root.

    A stage may begin once all steps of the previous one are done; within a stage, the order is free. ``coverages`` maps
    each item to what it adds to the collection's coverage.
    """
    ids_by_year = defaultdict[YearKeys, set[str]](set)
    years, tiles = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for keys in sorted(coverages, key=lambda keys: keys.item):
        year_keys = keys.year_keys
        ids_by_year[year_keys].add(keys.item_id)
        years[year_keys.tile].add(f"{year_keys.year:04d}")
        tiles[year_keys.zone].add(year_keys.tile)
    yield [year_steps(store, context, year_keys, own) for year_keys, own in ids_by_year.items()]
    yield [parent_steps(store, tile_parent(context, tile), own) for tile, own in years.items()]
    yield [parent_steps(store, zone_parent(context, zone), own) for zone, own in tiles.items()]
    yield [collection_steps(store, context, tiles.keys(), merge_coverages(coverages.values()))]
    yield [root_steps(store, context)]


def tell_stages(feed: Feed, changes: Sequence[Change]) -> Iterator[Sequence[Steps]]:
    """Yield the steps that record what the catalogs show by now, and then remove the changes' markers."""
    yield [tell_steps(feed, changes)]
    yield [unmark_steps(feed.store, change.marker) for change in changes]


def year_steps(
    store: ObjectStore, context: CatalogContext, year_keys: YearKeys, own: AbstractSet[str] = frozenset()
) -> Steps:
    """Make the year's catalog link the newest version of each scene that a listing shows to be complete.

    A listing that lacks an item in ``own`` (items just published) or one that the catalog links is not trusted alone.
    """
    unsettled: list[ItemKeys] = []

    def render(current: StoredObject | None) -> bytes | None:
        folder = list_year_versions(store, year_keys, own | read_linked_items(current))
        unsettled[:] = list_unsettled(store, folder)
        if unsettled:
            return None
        return encode_document(build_year_catalog(context, year_keys, folder.linked_ids))

    for _ in range(_SETTLE_ATTEMPTS):
        yield from swap_steps(store, year_keys.catalog, render, confirm=True)
        if not unsettled:
            return
        for keys in unsettled:
            yield from settle_steps(store, context, keys)
    raise StoreUnavailable(f"{year_keys.catalog}: its items changed {_SETTLE_ATTEMPTS} times: try again")


def find_missing(store: ObjectStore, year_keys: YearKeys, ids: set[str]) -> list[ItemKeys]:
    """Return those of the published ``ids`` that neither the year's catalog nor a newer version links.

    An item that still has a withdrawn marker is missing, too.
    """
    unlinked = ids - read_linked_items(store.read_object(year_keys.catalog))
    if not unlinked:
        return []
    folder = list_year(store, year_keys)
    found = unlinked & folder.withdrawn_ids.union(folder.linked_ids)
    return [ItemKeys(year_keys, item_id) for item_id in sorted(found)]


def parent_steps(
    store: ObjectStore, parent: ParentCatalog, own: AbstractSet[str], *, rebuild: bool = False
) -> Steps:
    """Make the parent catalog link ``own``, whose catalogs exist; with ``rebuild``, replace it, whatever it links."""

    def render(current: StoredObject | None) -> bytes:
        document = read_document(current)
        if not rebuild and current is not None and document is not None and own <= read_children(document):
            return current.body
        return encode_document(parent.build(parent.find_children(store, document, own, rebuild=rebuild)))

    return swap_steps(store, parent.key, render)


def collection_steps(
    store: ObjectStore,
    context: CatalogContext,
    zones: AbstractSet[str],
    coverage: Coverage | None,
    *,
    rebuild: bool = False,
    before: StoredObject | None = None,
) -> Steps:
    """Make the collection link ``zones``, and extend what it covers by ``coverage``.

    With ``rebuild``, no link is taken from the present document. If the collection is still as it was ``before`` the
    items were checked, its old coverage is discarded as well; otherwise it may include items published since.
    """

    def render(current: StoredObject | None) -> bytes:
        document = read_document(current)
        covered = None if rebuild and current == before else read_collection_coverage(document)
        parent = collection_parent(store, context, merge_coverages((covered, coverage)), document)
        names = parent.find_children(store, None if rebuild else document, zones)
        return encode_document(parent.build(names))

    return swap_steps(store, COLLECTION_KEY, render)


def root_steps(store: ObjectStore, context: CatalogContext) -> Steps:
    """Write the root catalog, which links only the collection."""
    return swap_steps(store, CATALOG_KEY, lambda _: encode_document(build_root_catalog(context)))


def unmark_steps(store: ObjectStore, key: str) -> Steps:
    """Remove the marker of an item that every catalog above it links and the change feed has recorded."""
    store.delete_object(key)
    yield Step(StepName.UNMARK, key)


def find_mirror_keys(store: ObjectStore, current: Document | None) -> tuple[str, ...]:
    """Return the keys of the geoparquet mirror's parts, in order, without those that have been replaced.

    A part that the collection, ``current``, lists is left out only if it is absent or marked as retired.
    """
    keys = {info.key for info in store.list_objects(ITEMS_PREFIX)}
    retired = {key.removesuffix(RETIRED_SUFFIX) for key in keys if key.endswith(RETIRED_SUFFIX)}
    parts = {key for key in keys if MIRROR_PART_FORM.fullmatch(key.removeprefix(ITEMS_PREFIX))} - retired
    for key in sorted(read_mirror_keys(current) - keys - retired):
        if holds_object(store, key) and store.find_object(f"{key}{RETIRED_SUFFIX}") is None:
            parts.add(key)
    return tuple(sorted(parts))
