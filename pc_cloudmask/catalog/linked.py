"""What the catalogs link, found without reading an item.

Zones, tiles and years are told by their names, items by the dates in their links' titles. Only catalogs that a query
concerns are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import MAXYEAR, date
from functools import partial
from itertools import chain

import shapely

from pc_cloudmask.catalog.fields import Document, decode_document
from pc_cloudmask.catalog.layout import (
    COLLECTION_KEY,
    ItemKeys,
    YearKeys,
    item_keys,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.catalog.walk import YEAR_FORM, ZONE_FORM, read_children, walk_years
from pc_cloudmask.errors import CloudmaskError, SettingsError, SourceRefused
from pc_cloudmask.scene.geometry import BBox, boxes_meet, build_shape, build_tile_box, build_zone_box
from pc_cloudmask.scene.ids import TILE_FORM, drop_baseline
from pc_cloudmask.scene.query import Interval, SceneQuery, may_hold_day, parse_datetime_interval
from pc_cloudmask.storage.store import ObjectReader

#: Parts of an area that are looked up one by one; those of more are looked up as east and west.
_MOST_BOXES = 200


def find_linked_keys(store: ObjectReader, query: SceneQuery, pool: ThreadPoolExecutor) -> Iterator[ItemKeys]:
    """Yield the items that the catalogs link and ``query`` may match: those that do not are told by reading them.

    Raises:
        SettingsError: the store holds no catalog.
        SourceRefused: a linked catalog is missing or broken.
        StoreUnavailable, StoreRefused: the store.
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


def _list_boxes(query: SceneQuery) -> list[BBox] | None:
    """Return boxes that hold the query's place together; None for a query that has tiles, or no place."""
    if query.tiles:
        return None
    boxes = [] if query.bbox is None else [query.bbox]
    if query.intersects is not None:
        parts = shapely.get_parts(build_shape(query.intersects))
        if len(parts) > _MOST_BOXES:
            # Apart, since areas at the antimeridian have parts on both sides of the world.
            west = shapely.bounds(parts)[:, 0] < 0
            parts = [shapely.GeometryCollection(list(each)) for each in (parts[west], parts[~west])]
        boxes += [_as_box(part) for part in parts if not part.is_empty]
    return boxes or None


def _as_box(part: shapely.Geometry) -> BBox:
    west, south, east, north = part.bounds
    return (west, south, east, north)


def _find_tiles(store: ObjectReader, query: SceneQuery, pool: ThreadPoolExecutor) -> list[str] | None:
    """Return those tiles of the query that are published; None for a query that names none."""
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
    """Return the names of that form that the catalog links and the query concerns, sorted."""
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
    """Return the day that begins a link's title; None for another title."""
    try:
        return date.fromisoformat(str(link.get("title"))[:10])
    except ValueError:
        return None


def find_linked_tiles(store: ObjectReader, pool: ThreadPoolExecutor) -> list[str]:
    """Return the tiles that the catalogs link, sorted; for what it raises see ``find_linked_keys``."""

    def find(catalog: str, form: re.Pattern[str]) -> list[str]:
        return list(filter(form.fullmatch, read_children(read_linked(store, catalog))))

    zones = find(COLLECTION_KEY, ZONE_FORM)
    found = pool.map(lambda zone: find(zone_catalog_key(zone), TILE_FORM), zones)
    return sorted(chain.from_iterable(found))
