"""Writing the catalogs above the items."""

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
    STYLE_KEY,
    TILE_INDEX_KEY,
    ItemKeys,
    YearKeys,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.catalog.steps import Step, StepName, Steps, swap_steps
from pc_cloudmask.catalog.versions import list_unsettled, list_year_versions, settle_steps
from pc_cloudmask.catalog.walk import (
    YEAR_FORM,
    ZONE_FORM,
    holds_object,
    list_year,
    read_children,
    read_linked_items,
)
from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.scene.ids import TILE_FORM
from pc_cloudmask.storage.store import ObjectStore, StoredObject

#: More than any number of writers that publish versions of one year's scenes at the same time needs.
_SETTLE_ATTEMPTS = 100
MIRROR_SUFFIX = ".parquet"
_PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\.parquet")
#: Ends the key of a mark next to a part of the mirror that the collection no longer lists.
RETIRED_SUFFIX = ".retired"


@dataclass(frozen=True, slots=True)
class ParentCatalog:
    """The catalog at ``key``; its children are folders next to it that hold a catalog.

    ``form`` is what their names look like: another folder there is not ours. ``build`` gives
    the document that links the children of the given names.
    """

    key: str
    form: re.Pattern[str]
    build: Callable[[Sequence[str]], Document]

    @property
    def folder(self) -> str:
        """Its folder, with a trailing slash."""
        return f"{self.key.rpartition('/')[0]}/"

    def holds(self, store: ObjectStore, name: str) -> bool:
        """Return True if a child of that name has a catalog."""
        return bool(self.form.fullmatch(name)) and holds_object(store, f"{self.folder}{name}/catalog.json")

    def find_children(
        self, store: ObjectStore, document: Document | None, own: AbstractSet[str], *, rebuild: bool = False
    ) -> list[str]:
        """Return the names of the children, sorted.

        A folder may be there before its catalog: another writer's first file. Such a one is not
        linked. ``own`` are known to have theirs, and so are those that ``document`` links, unless it is to
        be built again. A child that it links is dropped only where the listing lacks it and its catalog is
        absent; without a document two listings stand in for it.
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

    def build(names: Sequence[str]) -> Document:
        return build_tile_catalog(context, tile, [int(name) for name in names])

    return ParentCatalog(tile_catalog_key(tile), YEAR_FORM, build)


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
        # Only next to a mirror: a catalog without one is spared the question.
        has_index = bool(mirror) and store.find_object(TILE_INDEX_KEY) is not None
        index = (TILE_INDEX_KEY, STYLE_KEY) if has_index else ()
        return build_collection(context, names, coverage, (*mirror, *index))

    return ParentCatalog(COLLECTION_KEY, ZONE_FORM, build)


def catalog_stages(
    store: ObjectStore,
    context: CatalogContext,
    coverages: Mapping[ItemKeys, Coverage],
) -> Iterator[Sequence[Steps]]:
    """Yield the steps that link published items, from the years up to the root.

    A stage may begin once every step of the one before is done; within a stage the order is free.
    ``coverages`` holds what each item adds to the collection.
    """
    ids_by_year: dict[YearKeys, set[str]] = defaultdict(set)
    years: dict[str, set[str]] = defaultdict(set)
    tiles: dict[str, set[str]] = defaultdict(set)
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
    """Yield the steps that tell what the catalogs show by now, and then drop the changes' markers."""
    yield [tell_steps(feed, changes)]
    yield [unmark_steps(feed.store, change.marker) for change in changes]


def year_steps(
    store: ObjectStore, context: CatalogContext, year_keys: YearKeys, own: AbstractSet[str] = frozenset()
) -> Steps:
    """Make the year's catalog link what a listing shows to be complete, of each scene the newest.

    A listing that lacks items of ``own``, which were just published, or items that the catalog links is
    not believed alone.

    Raises:
        StoreUnavailable: trying again is harmless.
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
    """Return those of the published ``ids`` that the year's catalog neither links nor has a newer version of.

    One whose withdrawn marker is there still is missing too.
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
    """Make the parent catalog link ``own``, whose catalogs exist; one that does already is left alone.

    With ``rebuild`` nothing is taken from the present document, and it is written whatever it links.
    """

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
    """Make the collection link ``zones`` and cover ``coverage`` beyond what it covers already.

    With ``rebuild`` no link is taken from the present document, and a collection that is still as it was
    ``before`` the items were looked at loses what it covered: another may tell of items published since.
    """

    def render(current: StoredObject | None) -> bytes:
        document = read_document(current)
        covered = None if rebuild and current == before else read_collection_coverage(document)
        parent = collection_parent(store, context, merge_coverages((covered, coverage)), document)
        return encode_document(
            parent.build(parent.find_children(store, None if rebuild else document, zones))
        )

    return swap_steps(store, COLLECTION_KEY, render)


def root_steps(store: ObjectStore, context: CatalogContext) -> Steps:
    """Put the root catalog, which links the collection alone."""
    return swap_steps(store, CATALOG_KEY, lambda _: encode_document(build_root_catalog(context)))


def unmark_steps(store: ObjectStore, key: str) -> Steps:
    """Remove the marker of an item that every catalog above it links, as the change feed tells."""
    store.delete_object(key)
    yield Step(StepName.UNMARK, key)


def find_mirror_keys(store: ObjectStore, current: Document | None) -> tuple[str, ...]:
    """Return the keys of the geoparquet mirror's parts, in order, without those that others replace.

    A part that ``current``, the collection, lists is left out only where it is absent or marked as retired.
    """
    keys = {info.key for info in store.list_objects(ITEMS_PREFIX)}
    retired = {key.removesuffix(RETIRED_SUFFIX) for key in keys if key.endswith(RETIRED_SUFFIX)}
    parts = {key for key in keys if _PART_NAME.fullmatch(key.removeprefix(ITEMS_PREFIX))} - retired
    for key in sorted(read_mirror_keys(current) - keys - retired):
        if holds_object(store, key) and store.find_object(f"{key}{RETIRED_SUFFIX}") is None:
            parts.add(key)
    return tuple(sorted(parts))


def read_mirror_keys(collection: Document | None) -> set[str]:
    """Return the keys of the mirror's parts that a collection lists; none if it is missing or broken."""
    try:
        hrefs = [str(asset["href"]) for asset in (collection or {}).get("assets", {}).values()]
    except (LookupError, TypeError, AttributeError):
        return set()
    names = (href.rpartition("/")[2] for href in hrefs)
    return {f"{ITEMS_PREFIX}{name}" for name in names if _PART_NAME.fullmatch(name)}
