"""Traverse the published tree: collection, zones, tiles, years and items.

Three sources show what exists: the links of a catalog, the folders next to it, and a listing of all objects below a
prefix. Readers trust only the links. Code that must miss nothing combines links and folders, since either may lack a
name: ``find_names``. Code that counts uses one listing: ``group_years``. Where a listing contradicts the store's other
answers, ``StoreUnavailable`` is raised.

Zones, tiles and years are selected by their names, items by the dates in their links' titles. Only catalogs that a
query concerns are read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import MAXYEAR, date
from functools import partial
from itertools import chain, groupby, product, starmap
from typing import Any, NamedTuple

import shapely

from pc_cloudmask.catalog.fields import Document, decode_document, read_document
from pc_cloudmask.catalog.layout import (
    ASSET_NAME_FORM,
    COLLECTION_ID,
    COLLECTION_KEY,
    ITEMS_PREFIX,
    MIRROR_PART_FORM,
    WITHDRAWN_NAME,
    ItemKeys,
    YearKeys,
    item_keys,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.errors import CloudmaskError, SettingsError, SourceRefused, StoreUnavailable
from pc_cloudmask.scene.geometry import BBox, boxes_meet, build_shape, build_tile_box, build_zone_box
from pc_cloudmask.scene.query import Interval, SceneQuery, may_hold_day, parse_datetime_interval
from pc_cloudmask.scene.scene import TILE_FORM, drop_baseline, is_item_id
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectInfo, ObjectReader, ObjectStore, StoredObject

ZONE_FORM = re.compile(r"\d\d[C-X]")
YEAR_FORM = re.compile(r"\d{4}")
#: Depth of the folder of a year, as in ``layout``: collection, zone, tile, year.
_YEAR_DEPTH = 4
_SUPERSEDED_PREFIX, _JSON = "superseded-by-", ".json"
#: How many listings are requested until one is complete or two agree.
LISTINGS = 4
#: Returns the names of a given form below the catalog at a key.
FindNames = Callable[[str, re.Pattern[str]], Iterable[str]]
#: ``map``, or the ``map`` of a pool.
MapAll = Callable[[Callable[[str], Any], Iterable[str]], Iterable[Any]]
logger = logging.getLogger(__name__)


def walk_years(
    find_names: FindNames, tiles: Iterable[str] | None = None, map_all: MapAll = map
) -> Iterator[YearKeys]:
    """Yield every year below the collection, or below ``tiles``, by zone, tile and year."""

    def find_tiles(zone: str) -> Iterable[str]:
        return find_names(zone_catalog_key(zone), TILE_FORM)

    def find_years(tile: str) -> list[YearKeys]:
        return [YearKeys(tile, int(name)) for name in find_names(tile_catalog_key(tile), YEAR_FORM)]

    if tiles is None:
        tiles = chain.from_iterable(map_all(find_tiles, find_names(COLLECTION_KEY, ZONE_FORM)))
    yield from chain.from_iterable(map_all(find_years, tiles))


def find_names(store: ObjectStore, catalog: str, form: re.Pattern[str]) -> list[str]:
    """Return, sorted, the names of ``form`` that the catalog at that key links or that folders next to it have."""
    listed = store.list_folders(f"{catalog.rpartition('/')[0]}/")
    return sorted(filter(form.fullmatch, find_linked(store, catalog).union(listed)))


def find_linked(store: ObjectStore, catalog: str) -> set[str]:
    """Return the names of the children that the catalog at that key links now; empty if it is broken."""
    return read_children(read_document(store.read_object(catalog)))


def list_links(document: Document | None, rel: str) -> list[str] | None:
    """Return the folder names of the ``rel`` links of ``document``; None if it is missing or broken."""
    try:
        links = (document or {})["links"]
        return [link["href"].split("/")[-2] for link in links if link["rel"] == rel]
    except (LookupError, TypeError, AttributeError):
        return None


def read_children(document: Document | None, rel: str = "child") -> set[str]:
    """Return the folder names of the ``rel`` links of ``document``; empty if it is missing or broken."""
    return set(list_links(document, rel) or ())


def read_linked_items(catalog: StoredObject | None) -> set[str]:
    """Return the ids of the items that a year's catalog links; empty if it is missing or broken."""
    return set(filter(is_item_id, read_children(read_document(catalog), "item")))


def superseded_name(successor_id: str) -> str:
    """Return the name of the mark in an older item's folder that names the item that superseded it."""
    return f"{_SUPERSEDED_PREFIX}{successor_id}{_JSON}"


@dataclass(slots=True)
class ItemFolder:
    """The objects of one item, by their names in its folder."""

    item_id: str
    objects: dict[str, ObjectInfo] = field(default_factory=dict)

    @property
    def item(self) -> ObjectInfo | None:
        """The item's document, which is written after every file that it links."""
        return self.objects.get(f"{self.item_id}{_JSON}")

    @property
    def is_withdrawn(self) -> bool:
        """Whether its withdrawn marker is there."""
        return WITHDRAWN_NAME in self.objects

    @property
    def is_published(self) -> bool:
        """Whether the item exists and has not been withdrawn."""
        return self.item is not None and not self.is_withdrawn

    @property
    def successors(self) -> list[str]:
        """Ids of the items that superseded this one."""
        return [
            name.removeprefix(_SUPERSEDED_PREFIX).removesuffix(_JSON)
            for name in self.objects
            if name.startswith(_SUPERSEDED_PREFIX)
        ]


@dataclass(slots=True)
class YearFolder:
    """The item folders of one year by item id; ``unknown_objects`` belong to no item."""

    year_keys: YearKeys
    folders: dict[str, ItemFolder] = field(default_factory=dict)
    unknown_objects: list[ObjectInfo] = field(default_factory=list)

    @property
    def linked_ids(self) -> list[str]:
        """Ids of the items that the year's catalog links, sorted.

        An item gives way only to a successor that this same listing shows to exist.
        """
        return sorted(
            item_id
            for item_id, folder in self.folders.items()
            if folder.is_published and not any(map(self.holds, folder.successors))
        )

    @property
    def withdrawn_ids(self) -> set[str]:
        """Ids of the items with a withdrawn marker."""
        return {item_id for item_id, folder in self.folders.items() if folder.is_withdrawn}

    def holds(self, item_id: str) -> bool:
        """Return True if the year has the item, published and not withdrawn."""
        folder = self.folders.get(item_id)
        return folder is not None and folder.is_published

    def hash_listing(self) -> int:
        """Return a hash that, within one process, is equal for two listings that show the same objects."""
        objects = (info for each in self.folders.values() for info in each.objects.values())
        return hash(tuple((info.key, info.size, info.modified) for info in (*objects, *self.unknown_objects)))

    def find_missing(self, expected: Iterable[str]) -> set[str]:
        """Return those of the ``expected`` items that the listing lacks and no withdrawn marker explains."""
        found = (each.item_id for each in self.folders.values() if each.item is not None or each.is_withdrawn)
        return set(expected).difference(found)


def holds_object(store: ObjectStore, key: str) -> bool:
    """Return True if the store has the object; False only if a HEAD, a GET and a listing agree that it does not.

    Some stores answer a HEAD with 404 for an object that a GET returns, and a listing may lag behind both. If they
    contradict each other twice, which a concurrent writer does not explain, ``StoreUnavailable`` is raised.
    """
    for _ in range(2):
        if store.find_object(key) is not None:
            return True
        if store.read_object(key) is None and all(info.key != key for info in store.list_objects(key)):
            return False
    raise StoreUnavailable(
        f"{key}: {store.url} says both that it is there and that it is not: try again later"
    )


def list_with_control(store: ObjectStore, prefix: str, control: str) -> Iterator[ObjectInfo]:
    """Yield every object below ``prefix``, among which the one at ``control`` must be if it exists."""
    is_shown = False
    for info in store.list_objects(prefix):
        is_shown = is_shown or info.key == control
        yield info
    if not is_shown and holds_object(store, control):
        raise StoreUnavailable(f"{control}: the listing of {store.url} lacks it: try again later")


def list_year(store: ObjectStore, year_keys: YearKeys) -> YearFolder:
    """Return the year according to a listing that includes the year's catalog, if there is one.

    The catalog's key sorts after those of Sentinel-2's items, so an empty or truncated listing lacks it.
    """
    for _ in range(LISTINGS - 1):
        try:
            return group_year(year_keys, list_with_control(store, year_keys.prefix, year_keys.catalog))
        except StoreUnavailable as error:
            logger.info("listing again: %s", error)
    return group_year(year_keys, list_with_control(store, year_keys.prefix, year_keys.catalog))


def list_year_surely(store: ObjectStore, year_keys: YearKeys, expected: Iterable[str]) -> YearFolder:
    """Return the year according to a listing that shows every ``expected`` item or its withdrawn marker.

    An item is considered gone only if two listings lack it and the store itself says that it is absent.
    """
    expected = set(expected)
    missing_before: set[str] | None = None
    for _ in range(LISTINGS):
        folder = list_year(store, year_keys)
        missing = folder.find_missing(expected)
        there = (holds_object(store, ItemKeys(year_keys, item_id).item) for item_id in sorted(missing))
        if not missing or (missing == missing_before and not any(there)):
            return folder
        missing_before = missing
    raise StoreUnavailable(
        f"{year_keys.catalog}: the listing of {store.url} lacks items that are there, {min(missing)} among them: "
        "try again later"
    )


def group_year(year_keys: YearKeys, objects: Iterable[ObjectInfo]) -> YearFolder:
    """Sort ``objects`` below the year's prefix by item; objects that publishing never writes are unknown objects."""
    found, prefix = YearFolder(year_keys), year_keys.prefix
    for info in objects:
        item_id, slash, name = info.key.removeprefix(prefix).partition("/")
        if slash and is_item_id(item_id) and _is_ours(item_id, name):
            found.folders.setdefault(item_id, ItemFolder(item_id)).objects[name] = info
        elif info.key != year_keys.catalog:
            found.unknown_objects.append(info)
    return found


def _is_ours(item_id: str, name: str) -> bool:
    is_mark = name == WITHDRAWN_NAME or name.startswith(_SUPERSEDED_PREFIX)
    return is_mark or name == f"{item_id}{_JSON}" or ASSET_NAME_FORM.fullmatch(name) is not None


def group_years(objects: Iterable[ObjectInfo]) -> Iterator[tuple[str, YearFolder | None]]:
    """Yield prefix and content of each year in a listing, one at a time; for other objects their prefix and None."""
    for parts, group in groupby(objects, lambda info: info.key.split("/")[:_YEAR_DEPTH]):
        is_year = len(parts) == _YEAR_DEPTH and YEAR_FORM.fullmatch(parts[-1])
        yield "/".join(parts), group_year(YearKeys(parts[2], int(parts[3])), group) if is_year else None


def list_years(store: ObjectStore) -> Iterator[YearFolder]:
    """Yield every year according to one complete listing of the collection."""
    for _, folder in group_years(list_with_control(store, f"{COLLECTION_ID}/", COLLECTION_KEY)):
        if folder is not None:
            yield folder


class YearListing(NamedTuple):
    """Ids of the items that a year links, and of those withdrawn from it."""

    linked: frozenset[str]
    withdrawn: frozenset[str]


class YearListings:
    """The listings of years, kept while consecutive months of the same years are processed."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._listings: dict[YearKeys, YearListing] = {}

    def read(self, tiles: Iterable[str], years: range) -> Iterator[tuple[YearKeys, YearListing]]:
        """Yield the listing of each tile and year; those of other years are forgotten."""
        self.forget([each for each in self._listings if each.year not in years])
        for year_keys in starmap(YearKeys, product(sorted(tiles), years)):
            if year_keys not in self._listings:
                folder = list_year(self._store, year_keys)
                listing = YearListing(frozenset(folder.linked_ids), frozenset(folder.withdrawn_ids))
                self._listings[year_keys] = listing
            yield year_keys, self._listings[year_keys]

    def forget(self, years: Iterable[YearKeys]) -> None:
        """Discard these listings, so that they are made again when next needed."""
        for year_keys in years:
            self._listings.pop(year_keys, None)


#: Parts of an area that are looked up one by one; if there are more, only east and west are told apart.
_MOST_BOXES = 200


def find_linked_keys(store: ObjectReader, query: SceneQuery, pool: ThreadPoolExecutor) -> Iterator[ItemKeys]:
    """Yield the linked items that ``query`` may match; only reading them shows whether they do.

    Raises:
        SettingsError: the store holds no catalog.
        SourceRefused: a linked catalog is missing or broken.
        StoreUnavailable, StoreRefused: the store cannot be read.
    """
    interval = parse_datetime_interval(query.datetime) if query.datetime else (None, None)
    ids = {drop_baseline(item_id) for item_id in query.ids}
    find_names = partial(_find_names, store, _list_boxes(query), interval)
    years = walk_years(find_names, _find_tiles(store, query, pool), pool.map)
    linked = pool.map(partial(_find_linked, store, interval=interval), years)
    for keys in chain.from_iterable(linked):
        if not ids or drop_baseline(keys.item_id) in ids:
            yield keys


def read_linked(store: ObjectReader, key: str) -> Document:
    """Return the document at a key that another document links.

    Raises:
        SourceRefused: it is missing or broken.
    """
    stored = store.read_object(key)
    if stored is None:
        raise SourceRefused(f"{store.url}: {key} is linked and missing; run cloudmask check --repair")
    try:
        return decode_document(stored.body, key)
    except CloudmaskError as error:
        raise SourceRefused(f"{store.url}: {error}; run cloudmask check --repair") from error


def find_published(store: ObjectStore, keys: ItemKeys) -> Item | None:
    """Return the item in the store, in one read; None if there is none, or if it is broken."""
    stored = store.read_object(keys.item)
    return None if stored is None else decode_item(stored, keys)


def decode_item(stored: StoredObject, keys: ItemKeys) -> Item | None:
    """Return the item that is stored at its keys; None if it is broken."""
    try:
        item = decode_document(stored.body, keys.item)
    except CloudmaskError as error:
        logger.warning("%s is broken and will be published again: %s", keys.item, error)
        return None
    if item.get("id") != keys.item_id or not isinstance(item.get("properties"), dict):
        logger.warning("%s does not hold that item and will be published again", keys.item)
        return None
    return item


def read_mirror_keys(collection: Document | None) -> set[str]:
    """Return the keys of the mirror's parts that a collection lists; none if it is missing or broken."""
    try:
        hrefs = [str(asset["href"]) for asset in (collection or {}).get("assets", {}).values()]
    except (LookupError, TypeError, AttributeError):
        return set()
    names = (href.rpartition("/")[2] for href in hrefs)
    return {f"{ITEMS_PREFIX}{name}" for name in names if MIRROR_PART_FORM.fullmatch(name)}


def _list_boxes(query: SceneQuery) -> list[BBox] | None:
    """Return boxes that together contain the query's place; None for a query that has tiles, or no place."""
    if query.tiles:
        return None
    boxes = [] if query.bbox is None else [query.bbox]
    if query.intersects is not None:
        parts = shapely.get_parts(build_shape(query.intersects))
        if len(parts) > _MOST_BOXES:
            # Separate boxes, since areas at the antimeridian have parts on both sides of the world.
            west = shapely.bounds(parts)[:, 0] < 0
            parts = [shapely.GeometryCollection(list(each)) for each in (parts[west], parts[~west])]
        boxes += [part.bounds for part in parts if not part.is_empty]
    return boxes or None


def _find_tiles(store: ObjectReader, query: SceneQuery, pool: ThreadPoolExecutor) -> list[str] | None:
    """Return the query's tiles that are published; None for a query that names none."""
    published = pool.map(lambda tile: store.find_object(tile_catalog_key(tile)), query.tiles)
    tiles = [tile for tile, info in zip(query.tiles, published, strict=True) if info is not None]
    if not tiles and store.find_object(COLLECTION_KEY) is None:
        raise SettingsError(
            f"store {store.url} holds no catalog of masks: run cloudmask ingest first, or name another --store"
        )
    return tiles if query.tiles else None


def _find_names(
    store: ObjectReader, boxes: list[BBox] | None, interval: Interval, catalog: str, form: re.Pattern[str]
) -> list[str]:
    """Return, sorted, the names of that form that the catalog links and the query concerns."""
    names = sorted(filter(form.fullmatch, read_children(read_linked(store, catalog))))
    if form is YEAR_FORM:
        first, last = (end.year if end else None for end in interval)
        return [name for name in names if (first or 0) <= int(name) <= (last or MAXYEAR)]
    if boxes is None:
        return names
    build_box = build_zone_box if form is ZONE_FORM else build_tile_box
    return [name for name in names if any(boxes_meet(build_box(name), box) for box in boxes)]


def _find_linked(store: ObjectReader, year_keys: YearKeys, *, interval: Interval) -> list[ItemKeys]:
    """Return the items that the year links and whose titles' dates lie within the interval."""
    found = []
    for link in read_linked(store, year_keys.catalog).get("links", ()):
        if isinstance(link, dict) and link.get("rel") == "item" and may_hold_day(interval, _read_day(link)):
            name = str(link.get("href")).rpartition("/")[2]
            found.append(item_keys(name.removesuffix(".json"), year_keys.tile, year_keys.year))
    return found


def _read_day(link: Document) -> date | None:
    """Return the day at the beginning of a link's title; None for any other title."""
    with suppress(ValueError):
        return date.fromisoformat(str(link.get("title"))[:10])
    return None


def find_linked_tiles(store: ObjectReader, pool: ThreadPoolExecutor) -> list[str]:
    """Return the tiles that the catalogs link, sorted; it raises what ``find_linked_keys`` raises."""
    find = partial(_find_names, store, None, (None, None))
    zones = find(COLLECTION_KEY, ZONE_FORM)
    found = pool.map(lambda zone: find(zone_catalog_key(zone), TILE_FORM), zones)
    return sorted(chain.from_iterable(found))
