"""Published items that match a query."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import MAXYEAR, UTC, date, datetime
from functools import partial
from itertools import chain
from typing import cast

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from pc_cloudmask.catalog.fields import Document, decode_document
from pc_cloudmask.catalog.layout import (
    COLLECTION_KEY,
    FAILED_PREFIX,
    PENDING_PREFIX,
    PROVISIONAL_PREFIX,
    WAITING_PREFIX,
    ItemKeys,
    YearKeys,
    find_day,
    is_state_key,
    item_keys,
    tile_catalog_key,
)
from pc_cloudmask.catalog.publisher import find_published
from pc_cloudmask.catalog.walk import YEAR_FORM, ZONE_FORM, list_years, read_children, walk_years
from pc_cloudmask.errors import AssetRefused, CloudmaskError, SettingsError, SourceRefused, StoreRefused
from pc_cloudmask.masking.statistics import DECIMALS
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.ids import MASK_ASSET, drop_baseline
from pc_cloudmask.scene.query import Interval, SceneQuery, may_hold_day, parse_datetime_interval
from pc_cloudmask.scene.tile_box import boxes_meet, build_tile_box, build_zone_box
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.selection import build_filter, find_datetime
from pc_cloudmask.storage.store import ObjectReader, ObjectStore
from stac_ext.cloudmask import CLEAR_PERCENTAGE_PROP

#: Documents read at the same time: requests wait for the network, not for the processor.
_READERS = 16


@dataclass(frozen=True, slots=True)
class PublishedItem:
    """An item as the catalog links it, and where its files are."""

    keys: ItemKeys
    item: Item = field(hash=False)


def find_published_items(
    store: ObjectReader,
    query: SceneQuery,
    max_cloud_pct: float | None = None,
    broken: dict[str, CloudmaskError] | None = None,
) -> list[PublishedItem]:
    """Return what the catalog in ``store`` links and ``query`` matches, by datetime, then id.

    Only catalogs and items that the query concerns are read: zones, tiles and years are told by their names,
    items by the dates in their links' titles. ``max_cloud_pct`` is the most that cloud
    and shadow may cover of an item's valid pixels, in percent. An item whose document is missing or broken is left
    out, and what is wrong put under its id into ``broken``, where that is given.

    Raises:
        SettingsError: the store holds no catalog.
        SourceRefused: a linked catalog, or without ``broken`` an item, is missing or broken.
        StoreUnavailable, StoreRefused: the store.
    """
    interval = parse_datetime_interval(query.datetime) if query.datetime else (None, None)
    matches = build_filter(query)
    ids = {drop_baseline(item_id) for item_id in query.ids}
    with ThreadPoolExecutor(_READERS) as pool:
        years = walk_years(
            partial(_find_names, store, query, interval), _find_tiles(store, query, pool), pool.map
        )
        linked = pool.map(partial(_find_linked, store, interval=interval), years)
        wanted = [
            keys for keys in chain.from_iterable(linked) if not ids or drop_baseline(keys.item_id) in ids
        ]
        items = pool.map(partial(_read_item, store, broken), wanted)
        found = [
            published
            for published in items
            if published is not None
            and matches(published.item)
            and _is_clear_enough(published.item, max_cloud_pct)
        ]
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda each: (find_datetime(each.item) or latest, each.keys.item_id))


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
    store: ObjectReader, query: SceneQuery, interval: Interval, catalog: str, form: re.Pattern[str]
) -> list[str]:
    """Return the names of that form that the catalog links and the query concerns, sorted."""
    names = sorted(filter(form.fullmatch, read_children(_read(store, catalog))))
    if form is YEAR_FORM:
        first, last = (end.year if end else None for end in interval)
        return [name for name in names if (first or 0) <= int(name) <= (last or MAXYEAR)]
    if query.bbox is None or query.tiles:
        return names
    box = build_zone_box if form is ZONE_FORM else build_tile_box
    return [name for name in names if boxes_meet(box(name), query.bbox)]


def _find_linked(store: ObjectReader, year_keys: YearKeys, *, interval: Interval) -> list[ItemKeys]:
    """Return the items that the year links and whose titles' dates lie within the interval."""
    found = []
    for link in _read(store, year_keys.catalog).get("links", ()):
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


def _is_clear_enough(item: Item, max_cloud_pct: float | None) -> bool:
    if max_cloud_pct is None:
        return True
    clear = item.get("properties", {}).get(CLEAR_PERCENTAGE_PROP)
    return isinstance(clear, int | float) and round(100 - clear, DECIMALS) <= max_cloud_pct


def _read_item(
    store: ObjectReader, broken: dict[str, CloudmaskError] | None, keys: ItemKeys
) -> PublishedItem | None:
    try:
        return PublishedItem(keys, _read(store, keys.item))
    except SourceRefused as error:
        if broken is None:
            raise
        broken[keys.item_id] = error
        return None


def _read(store: ObjectReader, key: str) -> Document:
    stored = store.read_object(key)
    if stored is None:
        raise SourceRefused(f"{store.url}: {key} is linked and missing; run cloudmask check --repair")
    try:
        return decode_document(stored.body, key)
    except CloudmaskError as error:
        raise SourceRefused(f"{store.url}: {error}; run cloudmask check --repair") from error


def read_published_mask(store: ObjectStore, keys: ItemKeys) -> NDArray[np.uint8]:
    """Return the mask of a published item, uint8 ``(height, width)`` of ``MaskClass`` values.

    Raises:
        StoreRefused: the item or its mask is not in the store.
    """
    item = find_published(store, keys)
    if item is None:
        raise StoreRefused(f"{store.url}: {keys.item_id} is not published")
    name = item["assets"][MASK_ASSET]["href"].rpartition("/")[2]
    stored = store.read_object(f"{keys.prefix}{name}")
    if stored is None:
        raise StoreRefused(
            f"{store.url}: the mask of {keys.item_id} is missing; run cloudmask check --repair"
        )
    return decode_mask(stored.body, keys.item_id)


def decode_mask(cog: bytes, item_id: str) -> NDArray[np.uint8]:
    """Return the pixels of a mask's COG, uint8 ``(height, width)`` of ``MaskClass`` values.

    Raises:
        AssetRefused: it is not such a file.
    """
    try:
        with MemoryFile(cog) as memory, memory.open(driver="GTiff") as dataset:
            check_raster(dataset)
            return cast(NDArray[np.uint8], dataset.read(1))
    except (Unsuitable, RasterioError) as error:
        raise AssetRefused(f"item {item_id}: its mask is no mask of ours: {error}") from error


@dataclass(frozen=True, slots=True)
class Census:
    """Scenes by state, and the days of each tile that have a published item, in order.

    Those that are ``provisional`` are among the published ones.
    """

    published: int
    pending: int
    waiting: int
    failed: int
    provisional: int
    days: dict[str, tuple[date, ...]]

    def find_gaps(self, scenes: Iterable[tuple[str, date]]) -> dict[str, list[date]]:
        """Return, by tile, the days of ``scenes`` (tile and day, as the source has them) that are not published."""
        gaps: dict[str, set[date]] = {}
        for tile, day in scenes:
            if day not in self.days.get(tile, ()):
                gaps.setdefault(tile, set()).add(day)
        return {tile: sorted(days) for tile, days in sorted(gaps.items())}


def read_census(store: ObjectStore) -> Census:
    """Return the census of the store; one year's listing is in memory at a time.

    Raises:
        StoreUnavailable: the listing is not complete, or none came.
    """
    published = 0
    days: dict[str, set[date]] = {}
    for folder in list_years(store):
        ids = folder.linked_ids
        published += len(ids)
        tile_days = days.setdefault(folder.year_keys.tile, set())
        tile_days.update(day for day in map(find_day, ids) if day is not None)
    return Census(
        published,
        _count(store, PENDING_PREFIX),
        _count(store, WAITING_PREFIX),
        _count(store, FAILED_PREFIX),
        _count(store, PROVISIONAL_PREFIX),
        {tile: tuple(sorted(found)) for tile, found in days.items() if found},
    )


def _count(store: ObjectStore, prefix: str) -> int:
    return sum(is_state_key(info.key) for info in store.list_objects(prefix))
