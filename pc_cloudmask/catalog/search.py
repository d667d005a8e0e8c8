"""Search published items, find one by less than its id, read its mask, and count all of them.

A search uses the mirror where it provably holds the items as they are now.
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
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from itertools import chain
from typing import Any, TypeVar, cast

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from pc_cloudmask.catalog.layout import (
    COLLECTION_KEY,
    ITEMS_PREFIX,
    MARK_KEY,
    PENDING_PREFIX,
    ItemKeys,
    YearKeys,
    choose_same,
    find_day,
    find_tile,
    is_state_key,
    match_name,
    parse_beginning,
    parse_tile_and_day,
)
from pc_cloudmask.catalog.states import StateKind
from pc_cloudmask.catalog.walk import (
    find_linked_keys,
    find_published,
    list_years,
    read_linked,
    read_mirror_keys,
)
from pc_cloudmask.errors import AssetRefused, CloudmaskError, SourceRefused, StoreRefused
from pc_cloudmask.masking.classes import DECIMALS
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.source.fields import Item, build_filter, find_datetime, find_property
from pc_cloudmask.storage.store import ObjectReader, ObjectStore
from stac_ext import cloudmask

#: Documents read in parallel: requests wait for the network, not for the processor.
READERS = 16
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
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
    """Return what ``search_catalog`` finds by ``query`` and ``max_cloud_pct``, by datetime, then id."""
    found = search_catalog(store, ItemChoice(query, max_cloud_pct), lambda published: published, broken)
    return sorted(found, key=lambda each: (find_datetime(each.item) or _LATEST, each.keys.item_id))


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
        clear = find_property(item, cloudmask.CLEAR_PERCENTAGE_PROP)
        most = self.max_cloud_pct
        return (
            (most is None or (isinstance(clear, int | float) and round(100 - clear, DECIMALS) <= most))
            and (not self.methods or find_property(item, cloudmask.METHOD_PROP) in self.methods)
            and self.provisional in {None, find_property(item, cloudmask.PROVISIONAL_PROP) is True}
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

    Only what the query concerns is read, and no item is kept: many take a gigabyte. ``brief`` says that ``convert``
    needs only the fields of ``find_proven_rows``; many items are then read from the mirror, if it is proven current.
    The ``SourceRefused`` of a missing or broken item is added to ``broken`` under its id, if that is given.
    """
    matches = build_filter(choice.query)

    def judge(keys: ItemKeys, item: Item) -> list[T]:
        return [convert(PublishedItem(keys, item))] if matches(item) and choice.matches_mask(item) else []

    def read(keys: ItemKeys) -> list[T]:
        try:
            item = read_linked(store, keys.item)
        except SourceRefused as error:
            if broken is None:
                raise
            broken[keys.item_id] = error
            return []
        return judge(keys, item)

    found: list[T] = []
    with ThreadPoolExecutor(READERS) as pool:
        linked: Iterable[ItemKeys] = find_linked_keys(store, choice.query, pool)
        if brief:
            unread = dict.fromkeys(linked)
            for keys, row in find_proven_rows(store, list(unread), pool):
                if keys in unread:
                    del unread[keys]
                    found += judge(keys, row)
            linked = unread
        return [*found, *chain.from_iterable(pool.map(read, linked))]


def find_named_keys(store: ObjectReader, text: str, option: str = "ITEM") -> ItemKeys:
    """Return the keys of the one linked item that ``text`` names; see ``match_name``.

    If the text contains a tile or a day, only the catalogs concerned are read. An item is read only if midnight may lie
    between the instant in its id, the start of its datatake, and its own.

    Raises:
        AmbiguousItem: there are several.
        SettingsError: no item's id can begin with this text, or the store holds no catalog.
        StoreRefused: the catalogs link no such item.
        SourceRefused, StoreUnavailable: a catalog is broken, or the store does not answer.
    """
    place = parse_tile_and_day(text)
    beginning = text if place else parse_beginning(text, option)
    tile, day = place or (find_tile(beginning), find_day(beginning))
    query = SceneQuery(tiles=(tile,) if tile else (), datetime=_build_interval(day) if day else None)
    with ThreadPoolExecutor(READERS) as pool:
        linked = {keys.item_id: keys for keys in find_linked_keys(store, query, pool)}
    if place:
        names = sorted(each for each, keys in linked.items() if _was_taken_on(store, keys, place[1]))
    else:
        names = match_name(beginning, linked, option)
    if not names:
        raise StoreRefused(
            f"{store.url}: {text:.128} is not published there: run cloudmask ingest --ids first"
            if not place
            else f"{store.url}: nothing of {text} is published there: cloudmask ls --tile {tile} lists what is"
        )
    return linked[choose_same(names, text, option)[0]]


def _build_interval(day: date) -> str | None:
    """Return the day extended by one day on each side, within the range of the calendar."""
    with suppress(OverflowError):
        return f"{day - timedelta(days=1)}/{day + timedelta(days=1)}"
    return None


def _was_taken_on(store: ObjectReader, keys: ItemKeys, day: date) -> bool:
    if find_day(keys.item_id) == day:
        return True
    moment = find_datetime(read_linked(store, keys.item))
    return moment is not None and moment.date() == day


def read_published_mask(store: ObjectStore, keys: ItemKeys) -> NDArray[np.uint8]:
    """Return the mask of a published item as ``decode_mask`` does, or raise ``StoreRefused`` if it is not there."""
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
        gaps: dict[str, set[date]] = defaultdict(set)
        for tile, day in scenes:
            if day not in self.days.get(tile, ()):
                gaps[tile].add(day)
        return {tile: sorted(days) for tile, days in sorted(gaps.items())}


def read_census(store: ObjectStore) -> Census:
    """Count the scenes of the store; only one year's listing is in memory at a time."""
    published = 0
    days: dict[str, set[date]] = defaultdict(set)
    for folder in list_years(store):
        ids = folder.linked_ids
        published += len(ids)
        days[folder.year_keys.tile].update(filter(None, map(find_day, ids)))
    pending, waiting, failed, provisional = (
        sum(is_state_key(info.key) for info in store.list_objects(prefix))
        for prefix in (
            PENDING_PREFIX,
            StateKind.WAITING.prefix,
            StateKind.FAILED.prefix,
            StateKind.PROVISIONAL.prefix,
        )
    )
    sorted_days = {tile: tuple(sorted(found)) for tile, found in days.items() if found}
    return Census(published, pending, waiting, failed, provisional, sorted_days)


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
        files = sorted(key for key in listed & times.keys() if (times[key] or _EARLIEST) >= mark.modified)
        proven = _find_older(store, wanted, mark.modified, pool) if files else {}
        for file in files:
            yield from _read_rows(store, file, proven)
    except (CloudmaskError, ValueError, LookupError) as error:
        logger.info("%s: its mirror is not used: %s", store.url, error)


def _find_older(
    store: ObjectReader, wanted: list[ItemKeys], moment: datetime, pool: ThreadPoolExecutor
) -> dict[str, ItemKeys]:
    """Return by id the items whose documents are, by a listing, older than ``moment``."""
    documents = {keys.item: keys for keys in wanted}

    def find(year_keys: YearKeys) -> list[ItemKeys]:
        infos = store.list_objects(year_keys.prefix)  # type: ignore[attr-defined]
        older = (info.key for info in infos if info.modified and info.modified < moment)
        return [documents[key] for key in older if key in documents]

    years = dict.fromkeys(keys.year_keys for keys in wanted)
    return {keys.item_id: keys for found in pool.map(find, years) for keys in found}


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
    properties = {name: row[name] for name in _PROPERTIES if row.get(name) is not None}
    if isinstance(moment := properties.get("datetime"), datetime):
        properties["datetime"] = moment.isoformat().replace("+00:00", "Z")
    return {
        "id": row["id"],
        "geometry": shapely.geometry.mapping(shapely.from_wkb(row["geometry"])),
        "properties": properties,
        "assets": {MASK_ASSET: (row.get("assets") or {}).get(MASK_ASSET) or {}},
    }
