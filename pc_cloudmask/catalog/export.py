"""The catalog for other programs: the raster tile index for GDAL and QGIS, and files for pgstac.

``masks.gti.gpkg`` is a GeoPackage that GDAL 3.9 and later open as one raster (driver GTI): it has a row for each mask,
and the latest is on top. Older programs open it as a layer of boxes. It is in the collection's folder, so that the
paths of the masks need no ``..``, which object stores do not resolve. A style for QGIS is next to it.

``cloudmask index`` writes it from everything that is published. A run that keeps the mirror updates the years that it
changed: it removes rows that their catalogs no longer link and adds missing ones, whichever run left them.

``export_catalog`` is for users who outgrow a static catalog. Loading its three files any number of times makes a
database of pgstac equal to the catalog: the collection, the items with absolute hrefs, and a script that deletes what
the catalog no longer links. An item that cannot be read stays as it is in the database.
"""

from __future__ import annotations

import io
import logging
import posixpath
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from itertools import starmap
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring  # nosec B405 # parses nothing

import shapely
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from pc_cloudmask.catalog.documents import GEOPACKAGE_MEDIA_TYPE, QML_MEDIA_TYPE
from pc_cloudmask.catalog.fields import Document, encode_document, read_document
from pc_cloudmask.catalog.layout import (
    COLLECTION_ID,
    COLLECTION_KEY,
    STYLE_KEY,
    TILE_INDEX_KEY,
    ItemKeys,
    YearKeys,
    find_item_keys,
    item_keys,
)
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import run_steps, swap_steps
from pc_cloudmask.catalog.walk import (
    find_names,
    find_published,
    list_year_surely,
    read_linked_items,
    walk_years,
)
from pc_cloudmask.errors import CloudmaskError, SettingsError, StoreRefused
from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.scene.geometry import build_box, build_shape
from pc_cloudmask.scene.scene import MASK_ASSET, PREVIEW_ASSET
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import is_relative, map_hrefs
from pc_cloudmask.storage.store import ObjectStore, StoredObject
from pc_cloudmask.text import make_printable
from stac_ext import cloudmask

logger = logging.getLogger(__name__)
_LAYER = "masks"
#: Where an SQLite file names its application; here it identifies a GeoPackage.
_APPLICATION_ID = slice(68, 72)
#: 20 m in degrees of latitude: the Earth's circumference is 40,075 km.
_PIXEL_DEG = 20 / 40_075_017 * 360
#: What GDAL's driver reads from the layer, so that it opens no mask before pixels are requested. Rows are drawn in the
#: order of the sort field.
_LAYER_METADATA = {
    "RESX": f"{_PIXEL_DEG:.9f}",
    "RESY": f"{_PIXEL_DEG:.9f}",
    "BAND_COUNT": "1",
    "DATA_TYPE": "Byte",
    "NODATA": str(MaskClass.NO_DATA.value),
    "COLOR_INTERPRETATION": "palette",
    "SORT_FIELD": "datetime",
    "SORT_FIELD_ASC": "YES",
}
#: Items read in parallel: requests wait for the network, not for the processor.
_READERS = 16
#: What pyogrio and shapely raise for a file that is not our GeoPackage, or an item that is malformed.
_UNFIT = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, RasterioError)


@dataclass(frozen=True, slots=True, order=True)
class IndexRow:
    """One mask: ``location`` is its path from the index's folder, ``geometry`` a box in degrees, as WKB.

    The box holds the entire raster and one pixel more: GDAL complains about a box that does not.

    A scene that crosses the antimeridian has a row for each side; GDAL 3.10 draws only the one to the east of it.
    """

    location: str
    geometry: bytes
    id: str
    datetime: str
    tile: str
    crs: str
    method: str
    provisional: bool
    clear: float
    cloud: float
    shadow: float

    @property
    def year_keys(self) -> YearKeys:
        """Keys of the catalog that links the item."""
        return YearKeys(self.tile, int(self.datetime[:4]))


_COLUMNS = tuple(field for field in fields(IndexRow) if field.name != "geometry")
_DTYPES = {"bool": bool, "float": float}


def build_rows(item: Item) -> list[IndexRow]:
    """Return the rows of a published item, or raise one of ``_UNFIT`` if it is not as items are published."""
    properties, mask, keys = item["properties"], item["assets"][MASK_ASSET], find_item_keys(item)
    name = str(mask["href"]).rpartition("/")[2]
    west, south, east, north = transform_bounds(str(mask["proj:code"]), "EPSG:4326", *mask["proj:bbox"])
    box = build_box(west - _PIXEL_DEG, south - _PIXEL_DEG, east + _PIXEL_DEG, north + _PIXEL_DEG)
    shape = build_shape(box)
    return [
        IndexRow(
            location=f"{keys.prefix}{name}".removeprefix(f"{COLLECTION_ID}/"),
            geometry=shapely.to_wkb(part),
            id=keys.item_id,
            datetime=str(properties["datetime"]),
            tile=keys.year_keys.tile,
            crs=str(mask["proj:code"]),
            method=str(properties[cloudmask.METHOD_PROP]),
            provisional=bool(properties.get(cloudmask.PROVISIONAL_PROP, False)),
            clear=float(properties[cloudmask.CLEAR_PERCENTAGE_PROP]),
            cloud=float(properties[cloudmask.CLOUD_PERCENTAGE_PROP]),
            shadow=float(properties[cloudmask.SHADOW_PERCENTAGE_PROP]),
        )
        for part in getattr(shape, "geoms", (shape,))
    ]


def build_rows_or_warn(item: Item) -> list[IndexRow]:
    """Return the rows of a published item; log a warning and return none if it is malformed."""
    try:
        return build_rows(item)
    except (CloudmaskError, *_UNFIT) as error:
        logger.warning("left out of %s: %s: %s", TILE_INDEX_KEY, make_printable(item.get("id"), 128), error)
        return []


def rebuild_tile_index(store: ObjectStore, rows: Iterable[IndexRow]) -> None:
    """Write the index with ``rows`` for everything that is published, and the style."""
    body = encode_rows(rows)
    run_steps(swap_steps(store, TILE_INDEX_KEY, lambda _: body, GEOPACKAGE_MEDIA_TYPE))
    store.write_object(STYLE_KEY, build_style(), QML_MEDIA_TYPE)


def update_tile_index(store: ObjectStore, publisher: Publisher, changed: Sequence[ItemKeys]) -> None:
    """Update the rows of the years of ``changed`` items to match their catalogs; the changed items are read.

    If the index is new, the collection is written again to list it. An error of the store leaves the index unchanged.
    """
    ids_by_year: dict[YearKeys, set[str]] = defaultdict(set)
    for keys in changed:
        ids_by_year[keys.year_keys].add(keys.item_id)
    if not ids_by_year:
        return
    is_new = False

    def render(current: StoredObject | None) -> bytes | None:
        nonlocal is_new
        is_new = current is None
        try:
            rows = read_rows(current.body) if current is not None else []
        except _UNFIT:
            logger.warning("%s is no index of this program: cloudmask index makes it again", TILE_INDEX_KEY)
            return None
        kept = [row for row in rows if row.year_keys not in ids_by_year]
        for year_keys, changed_ids in ids_by_year.items():
            linked = read_linked_items(store.read_object(year_keys.catalog))
            held = [row for row in rows if row.year_keys == year_keys and row.id in linked - changed_ids]
            missing = linked.difference(row.id for row in held)
            kept += held + _read_rows_of(store, [ItemKeys(year_keys, item_id) for item_id in sorted(missing)])
        return encode_rows(kept)

    run_steps(swap_steps(store, TILE_INDEX_KEY, render, GEOPACKAGE_MEDIA_TYPE))
    run_steps(swap_steps(store, STYLE_KEY, lambda _: build_style(), QML_MEDIA_TYPE))
    if is_new:
        publisher.publish_collection()


def encode_rows(rows: Iterable[IndexRow]) -> bytes:
    """Return the GeoPackage of ``rows``; the same bytes for the same rows."""
    # From an optional extra, like everything that the mirror is written with.
    import numpy as np  # noqa: PLC0415
    import pyogrio  # noqa: PLC0415

    ordered = sorted(set(rows))
    columns = [
        np.array([getattr(row, column.name) for row in ordered], dtype=_DTYPES.get(str(column.type), object))
        for column in _COLUMNS
    ]
    file = io.BytesIO()
    # A GeoPackage says when it was changed; by default, that would be the clock's time.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
    try:
        pyogrio.raw.write(
            file,
            np.array([row.geometry for row in ordered], dtype=object),
            columns,
            [column.name for column in _COLUMNS],
            driver="GPKG",
            layer=_LAYER,
            geometry_type="Polygon",
            crs="EPSG:4326",
            layer_metadata=_LAYER_METADATA,
        )
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    return file.getvalue()


def read_rows(body: bytes) -> list[IndexRow]:
    """Return the rows of a GeoPackage that ``encode_rows`` wrote, or raise one of ``_UNFIT`` if it is another file."""
    import pyogrio  # noqa: PLC0415 - see encode_rows

    if body[_APPLICATION_ID] != b"GPKG":
        raise ValueError("is no GeoPackage")
    # GDAL warns about a GeoPackage in memory, because it has no suffix.
    with tempfile.NamedTemporaryFile(suffix=".gpkg") as file:
        file.write(body)
        file.flush()
        meta, _, geometries, columns = pyogrio.raw.read(file.name, layer=_LAYER)
    values = dict(zip(meta["fields"], (column.tolist() for column in columns), strict=True))
    values["geometry"] = geometries
    rows = zip(*(values[each.name] for each in fields(IndexRow)), strict=True)
    return list(starmap(IndexRow, rows))


def build_style() -> bytes:
    """Return QGIS's style for a mask or for the index: named classes, transparent unless drawn opaque."""
    root = Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = SubElement(
        SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = SubElement(renderer, "colorPalette")
    for value, style in CLASS_STYLES.items():
        SubElement(
            palette,
            "paletteEntry",
            value=str(value.value),
            label=style.title,
            color=f"#{style.color_hint.lower()}",
            alpha=str(255 * style.opaque),
        )
    indent(root)
    return b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root) + b"\n"


def _read_rows_of(store: ObjectStore, items: Sequence[ItemKeys]) -> list[IndexRow]:
    """Return the rows of published items, without items that cannot be read, which ``check`` reports."""
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(partial(find_published, store), items)
        return [row for item in found if item is not None for row in build_rows_or_warn(item)]


UNREADABLE = "cannot be read: run cloudmask check"
COLLECTION_NAME, ITEMS_NAME, PRUNE_NAME = "collection.ndjson", "items.ndjson", "prune.sql"
#: Link relations that an API generates itself.
_STRUCTURE = frozenset({"self", "root", "parent", "collection", "child", "item", "items"})
#: For psql. Ids have a fixed form, so none of their characters has a meaning in SQL.
_PRUNE = """\
begin;
set local search_path to pgstac, public;
create temporary table published (id text primary key) on commit drop;
copy published from stdin;
{ids}\\.
select delete_item(id, collection) from items
  where collection = '{collection}' and id not in (select id from published);
commit;
"""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a table lacks of an item: a field, or the entire item if ``field`` is empty."""

    id: str
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.field} {self.reason}" if self.field else f"{self.id}: {self.reason}"


def read_all(store: ObjectStore) -> Iterator[tuple[ItemKeys, Item | None]]:
    """Yield every item that a catalog links, by zone, tile, year and id, with None for an item that cannot be read.

    It raises ``StoreUnavailable`` if it is unknown what the catalogs link.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        for year_keys in walk_years(partial(find_names, store)):
            linked = read_linked_items(store.read_object(year_keys.catalog))
            ids = list_year_surely(store, year_keys, linked).linked_ids
            keys = [item_keys(item_id, year_keys.tile, year_keys.year) for item_id in ids]
            yield from zip(keys, pool.map(partial(find_published, store), keys), strict=True)


@dataclass(frozen=True, slots=True)
class Export:
    """What was written: the number of items, the files, and what was left out."""

    items: int
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def export_catalog(store: ObjectStore, folder: Path, base: str) -> Export:
    """Write the catalog's three files into ``folder``; ``base`` is the URL or path that relative hrefs start from.

    Raises:
        SettingsError: the folder cannot be written.
        StoreRefused: the store holds no collection.
        StoreUnavailable: it is unknown what the catalog links; the files written so far are incomplete.
    """
    collection = read_document(store.read_object(COLLECTION_KEY))
    if collection is None:
        raise StoreRefused(f"store {store.url} holds no collection of masks: run cloudmask check")
    left_out: list[LeftOut] = []
    ids: list[str] = []
    with _writing(folder):
        # Remove the deleting script first: one from an earlier export would delete items published since.
        (folder / PRUNE_NAME).unlink(missing_ok=True)
        with (folder / ITEMS_NAME).open("wb") as file:
            for keys, item in read_all(store):
                ids.append(keys.item_id)
                if item is None:
                    left_out.append(LeftOut(keys.item_id, "", UNREADABLE))
                else:
                    file.write(encode_document(_detach(item, keys.item, base)))
        # pgstac adds all entries of item_assets to each item: keep those that every item has.
        common = {name: collection["item_assets"][name] for name in (MASK_ASSET, PREVIEW_ASSET)}
        detached = _detach({**collection, "item_assets": common}, COLLECTION_KEY, base)
        (folder / COLLECTION_NAME).write_bytes(encode_document(detached))
        script = _PRUNE.format(collection=COLLECTION_ID, ids="".join(f"{each}\n" for each in ids))
        (folder / PRUNE_NAME).write_text(script)
    files = tuple(str(folder / name) for name in (COLLECTION_NAME, ITEMS_NAME, PRUNE_NAME))
    return Export(len(ids) - len(left_out), files, tuple(left_out))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Create ``folder``, and turn errors of the file system into ``SettingsError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}"
        raise SettingsError(f"{reason}: name another --out") from error


def _detach(document: Document, key: str, base: str) -> Document:
    """Return a document with absolute hrefs, without the links that an API generates."""
    folder = posixpath.dirname(f"{base}/{key}")

    def move(href: str) -> str:
        if not is_relative(href):
            return href
        scheme, separator, path = folder.rpartition("://")
        return f"{scheme}{separator}{posixpath.normpath(posixpath.join(path, href))}"

    kept = [link for link in document.get("links", []) if link.get("rel") not in _STRUCTURE]
    return map_hrefs({**document, "links": kept, "assets": document.get("assets", {})}, move)
