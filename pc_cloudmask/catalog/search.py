"""Search published items, using the mirror where it provably holds them as they are now.

Reading the documents of 20,000 items takes as many requests. The mirror has them in one file, which may be out of date.
A row is proven to be current without reading its item:

- Which items exist is decided by the catalogs' links alone: a row does not make an item exist, and a missing row does
  not hide one.
- A rebuild puts a mark before it reads the first item. Whatever is published later is newer than the mark, by the
  store's own clock. So an item whose document a listing shows to be older than the mark is the one that was read. Some
  stores count in seconds, so an item of the same second is not proven.
- The row's file must be newer than the mark, which excludes files of an earlier rebuild or of one that died. A rebuild
  that finds another's mark at the end removes it, and the mirror proves nothing until the next rebuild.
- Parts that runs append are ignored: what they hold is newer than the mark.

Without a mark, a listing (on a web server) or pyarrow, and for few items, the items themselves are read.
"""

from __future__ import annotations

import io
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.util import find_spec
from itertools import chain
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from pc_cloudmask.catalog.layout import (
    COLLECTION_ID,
    COLLECTION_KEY,
    FAILED_PREFIX,
    ITEMS_PREFIX,
    PENDING_PREFIX,
    PROVISIONAL_PREFIX,
    WAITING_PREFIX,
    ItemKeys,
    YearKeys,
    find_day,
    is_state_key,
)
from pc_cloudmask.catalog.parents import read_mirror_keys
from pc_cloudmask.catalog.publisher import find_published
from pc_cloudmask.catalog.walk import find_linked_keys, list_years, read_linked
from pc_cloudmask.errors import AssetRefused, CloudmaskError, SourceRefused, StoreRefused
from pc_cloudmask.masking.classes import DECIMALS
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.source.fields import Item, find_property
from pc_cloudmask.source.selection import build_filter, find_datetime
from pc_cloudmask.storage.store import ObjectReader, ObjectStore
from stac_ext import cloudmask
from stac_ext.cloudmask import CLEAR_PERCENTAGE_PROP, METHOD_PROP, PROVISIONAL_PROP

#: Documents read in parallel: requests wait for the network, not for the processor.
READERS = 16
_LATEST = datetime.max.replace(tzinfo=UTC)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PublishedItem:
    """An item as the catalog links it, and its keys."""

    keys: ItemKeys
    item: Item = field(hash=False)


def find_published_items(
    store: ObjectReader,
    query: SceneQuery,
    max_cloud_pct: float | None = None,
    broken: dict[str, CloudmaskError] | None = None,
) -> list[PublishedItem]:
    """Return the items that the catalog in ``store`` links and ``query`` matches, by datetime, then id.

    ``max_cloud_pct`` is the largest percentage of an item's valid pixels that cloud and shadow may cover. For
    ``broken`` and exceptions see ``search_catalog``.
    """
    choice = ItemChoice(query, max_cloud_pct)
    found = search_catalog(store, choice, lambda published: published, broken)
    return sorted(found, key=lambda each: order_item(each.item, each.keys.item_id))


@dataclass(frozen=True, slots=True)
class ItemChoice:
    """A choice of published items: by ``query`` and by properties of their masks.

    ``max_cloud_pct`` is the largest percentage of the valid pixels that cloud and shadow may cover. ``methods`` are the
    methods that may have made the mask; ``provisional`` True or False selects items that are or are not provisional.
    """

    query: SceneQuery
    max_cloud_pct: float | None = None
    methods: tuple[str, ...] = ()
    provisional: bool | None = None

    def matches_mask(self, item: Item) -> bool:
        """Return True if the item's mask meets the criteria."""
        return (
            _is_clear_enough(item, self.max_cloud_pct)
            and (not self.methods or find_property(item, METHOD_PROP) in self.methods)
            and self.provisional in {None, find_property(item, PROVISIONAL_PROP) is True}
        )


def search_catalog(
    store: ObjectReader,
    choice: ItemChoice,
    convert: Callable[[PublishedItem], T],
    broken: dict[str, CloudmaskError] | None = None,
    *,
    brief: bool = False,
) -> list[T]:
    """Return the result of ``convert`` for each item that the catalog links and ``choice`` matches, in no order.

    Only catalogs and items that the query concerns are read, and items are released once converted: many of them take a
    gigabyte. ``brief`` says that ``convert`` needs only the fields that ``find_proven_rows`` yields; many items are
    then read from the mirror where it is proven current. An item whose document is missing or broken is left out; if
    ``broken`` is given, the error is added to it under the item's id.

    Raises:
        SettingsError: the store holds no catalog.
        SourceRefused: a linked catalog, or without ``broken`` an item, is missing or broken.
        StoreUnavailable, StoreRefused: the store cannot be read.
    """
    matches = build_filter(choice.query)

    def judge(published: PublishedItem | None) -> list[T]:
        if published is None or not (matches(published.item) and choice.matches_mask(published.item)):
            return []
        return [convert(published)]

    found: list[T] = []
    with ThreadPoolExecutor(READERS) as pool:
        linked: Iterable[ItemKeys] = find_linked_keys(store, choice.query, pool)
        if brief:
            unread = dict.fromkeys(linked)
            for keys, row in find_proven_rows(store, list(unread), pool):
                if keys in unread:
                    del unread[keys]
                    found += judge(PublishedItem(keys, row))
            linked = unread
        return found + list(
            chain.from_iterable(pool.map(lambda keys: judge(_read_item(store, broken, keys)), linked))
        )


def order_item(item: Item, item_id: str) -> tuple[datetime, str]:
    """Return the sort key of an item: datetime, then id; items without a datetime come last."""
    return (find_datetime(item) or _LATEST, item_id)


def _is_clear_enough(item: Item, max_cloud_pct: float | None) -> bool:
    if max_cloud_pct is None:
        return True
    clear = item.get("properties", {}).get(CLEAR_PERCENTAGE_PROP)
    return isinstance(clear, int | float) and round(100 - clear, DECIMALS) <= max_cloud_pct


def _read_item(
    store: ObjectReader, broken: dict[str, CloudmaskError] | None, keys: ItemKeys
) -> PublishedItem | None:
    try:
        return PublishedItem(keys, read_linked(store, keys.item))
    except SourceRefused as error:
        if broken is None:
            raise
        broken[keys.item_id] = error
        return None


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
        AssetRefused: the file is not a mask.
    """
    try:
        with MemoryFile(cog) as memory, memory.open(driver="GTiff") as dataset:
            check_raster(dataset)
            return cast(NDArray[np.uint8], dataset.read(1))
    except (Unsuitable, RasterioError) as error:
        raise AssetRefused(f"item {item_id}: its mask is no mask of ours: {error}") from error


@dataclass(frozen=True, slots=True)
class Census:
    """Number of scenes by state, and for each tile the sorted days with a published item.

    ``provisional`` scenes are among the published ones.
    """

    published: int
    pending: int
    waiting: int
    failed: int
    provisional: int
    days: dict[str, tuple[date, ...]]

    def find_gaps(self, scenes: Iterable[tuple[str, date]]) -> dict[str, list[date]]:
        """Return, by tile, the days of ``scenes`` (tile and day, as in the source) without a published item."""
        gaps: dict[str, set[date]] = {}
        for tile, day in scenes:
            if day not in self.days.get(tile, ()):
                gaps.setdefault(tile, set()).add(day)
        return {tile: sorted(days) for tile, days in sorted(gaps.items())}


def read_census(store: ObjectStore) -> Census:
    """Count the scenes of the store; only one year's listing is in memory at a time.

    Raises:
        StoreUnavailable: a listing is incomplete or failed.
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


#: Put when a rebuild begins; only its time counts. It is not in the mirror's folder, which readers open as one table.
MARK_KEY = f"{COLLECTION_ID}/mirror.started"
MARK_BODY = b"{}\n"
#: For fewer items than this, reading them is faster than importing pyarrow.
LEAST_ITEMS = 500
_REBUILT = f"{ITEMS_PREFIX}items-"
_ROWS = 1000
_PROPERTIES = (
    *("datetime", "s2:mgrs_tile", cloudmask.METHOD_PROP, cloudmask.PROVISIONAL_PROP),
    *(cloudmask.CLEAR_PERCENTAGE_PROP, cloudmask.CLOUD_PERCENTAGE_PROP),
    *(cloudmask.SHADOW_PERCENTAGE_PROP, cloudmask.NODATA_PERCENTAGE_PROP),
)
_MASK_FIELDS = ("href", "proj:code", "proj:shape", "proj:transform", "file:size", "file:checksum")
logger = logging.getLogger(__name__)


def find_proven_rows(
    store: ObjectReader, wanted: list[ItemKeys], pool: ThreadPoolExecutor
) -> Iterator[tuple[ItemKeys, Item]]:
    """Yield the mirror's rows for those of ``wanted`` that it provably holds as they are; others must be read.

    A row has the geometry, and the properties and fields of the asset ``cloudmask`` that lists show, nothing else.
    """
    listing = getattr(store, "list_objects", None)
    if len(wanted) < LEAST_ITEMS or listing is None or find_spec("pyarrow") is None:
        return
    try:
        mark = store.find_object(MARK_KEY)
        if mark is None or mark.modified is None:
            return
        times = {info.key: info.modified for info in listing(_REBUILT)}
        listed = read_mirror_keys(read_linked(store, COLLECTION_KEY))
        files = sorted(key for key in listed & times.keys() if _is_since(times[key], mark.modified))
        if not files:
            return
        proven = _find_older(store, wanted, mark.modified, pool)
        for file in files:
            yield from _read_rows(store, file, proven)
    except (CloudmaskError, ValueError, LookupError) as error:
        logger.info("%s: its mirror is not used: %s", store.url, error)


def _is_since(modified: datetime | None, moment: datetime) -> bool:
    return modified is not None and modified >= moment


def _find_older(
    store: ObjectReader, wanted: list[ItemKeys], moment: datetime, pool: ThreadPoolExecutor
) -> dict[str, ItemKeys]:
    """Return by id the items whose documents are, by a listing, older than ``moment``."""
    by_year: dict[YearKeys, dict[str, ItemKeys]] = defaultdict(dict)
    for keys in wanted:
        by_year[keys.year_keys][keys.item] = keys

    def find(year_keys: YearKeys) -> list[ItemKeys]:
        documents = by_year[year_keys]
        infos = store.list_objects(year_keys.prefix)  # type: ignore[attr-defined]
        return [
            documents[info.key]
            for info in infos
            if info.key in documents and info.modified and info.modified < moment
        ]

    return {keys.item_id: keys for found in pool.map(find, by_year) for keys in found}


def _read_rows(store: ObjectReader, key: str, proven: dict[str, ItemKeys]) -> Iterator[tuple[ItemKeys, Item]]:
    """Yield the proven items in one file."""
    import pyarrow as pa  # noqa: PLC0415 - of an extra
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415

    stored = store.read_object(key)
    if stored is None:
        raise LookupError(f"{key} is listed and missing")
    try:
        file = ParquetFile(io.BytesIO(stored.body))
        names = [name for name in ("id", "geometry", *_PROPERTIES) if name in file.schema_arrow.names]
        fields = [f"assets.{MASK_ASSET}.{name}" for name in _MASK_FIELDS]
        for batch in file.iter_batches(_ROWS, columns=[*names, *fields]):
            for row in batch.to_pylist():
                if keys := proven.get(row["id"]):
                    yield keys, _build_item(row)
    except pa.ArrowException as error:
        raise ValueError(f"{key} cannot be read: {error}") from error


def _build_item(row: dict[str, Any]) -> Item:
    import shapely  # noqa: PLC0415

    properties = {name: row[name] for name in _PROPERTIES if row.get(name) is not None}
    if isinstance(moment := properties.get("datetime"), datetime):
        properties["datetime"] = moment.isoformat().replace("+00:00", "Z")
    geometry = shapely.from_wkb(row["geometry"])
    return {
        "id": row["id"],
        "geometry": shapely.geometry.mapping(geometry),
        "properties": properties,
        "assets": {MASK_ASSET: (row.get("assets") or {}).get(MASK_ASSET) or {}},
    }
