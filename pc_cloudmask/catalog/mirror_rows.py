"""Items from the geoparquet mirror, where it is proven that they are as they are published now.

Reading the documents of 20,000 items takes as many requests; the mirror has them in one file, and may be older than
they are. How a row is proven, without reading its item:

- What there is, the catalogs' links say, never the mirror: no row makes an item, and none that is missing hides one.
- A rebuild puts a mark before it reads the first item. Whatever is published later is newer than the mark, by the
  store's own clock. So an item whose document a listing shows to be older than the mark is the one that was read; of
  one of the same second, by which some stores count, it is not known.
- The row's file must be newer than the mark: that of a rebuild which died, or of an earlier one, is not. A rebuild that
  finds another's mark in the end takes it away, and the mirror proves nothing until the next one.
- Parts that runs append are not looked at: what they hold is newer than the mark.

Whoever has no mark, no listing (a web server), no pyarrow, or few items, reads the items.
"""

from __future__ import annotations

import io
import logging
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from pc_cloudmask.catalog.layout import COLLECTION_ID, COLLECTION_KEY, ITEMS_PREFIX, ItemKeys, YearKeys
from pc_cloudmask.catalog.linked import read_linked
from pc_cloudmask.catalog.parents import read_mirror_keys
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.scene.ids import MASK_ASSET
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectReader
from stac_ext import cloudmask

#: Put when a rebuild begins; its time alone counts. Not next to the files, which readers take for a folder of tables.
MARK_KEY = f"{COLLECTION_ID}/mirror.started"
MARK_BODY = b"{}\n"
#: Items from which on the mirror is asked: fewer are read sooner than pyarrow is loaded.
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
    """Yield what the mirror has of those of ``wanted`` that are proven to be as it says; any other is to be read.

    An item has its geometry, the properties and the fields of the asset ``cloudmask`` that lists show, nothing else.
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
    """Return by id those items whose documents listings show to be older than ``moment``."""
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
    """Yield the items of one file that are proven."""
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
