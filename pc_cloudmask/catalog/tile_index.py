"""The raster tile index: all masks as one layer, for GDAL and QGIS.

``masks.gti.gpkg`` is a GeoPackage that GDAL 3.9 and later open as one raster (driver GTI): it has a row for each mask,
and the latest is on top. Older programs open it as a layer of boxes. It is in the collection's folder, so that the
paths of the masks need no ``..``, which object stores do not resolve. A style for QGIS is next to it.

``cloudmask index`` writes it from everything that is published. A run that keeps the mirror updates the years that it
changed: it removes rows that their catalogs no longer link and adds missing ones, whichever run left them.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from xml.etree.ElementTree import Element, SubElement, indent, tostring  # nosec B405 # parses nothing

import shapely
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from pc_cloudmask.catalog.documents import GEOPACKAGE_MEDIA_TYPE, QML_MEDIA_TYPE
from pc_cloudmask.catalog.layout import (
    COLLECTION_ID,
    STYLE_KEY,
    TILE_INDEX_KEY,
    ItemKeys,
    YearKeys,
    item_keys,
)
from pc_cloudmask.catalog.publisher import Publisher, find_published
from pc_cloudmask.catalog.steps import run_steps, swap_steps
from pc_cloudmask.catalog.walk import read_linked_items
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.scene.geometry import build_box, build_shape
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectStore, StoredObject
from pc_cloudmask.text import make_printable
from stac_ext.cloudmask import (
    CLEAR_PERCENTAGE_PROP,
    CLOUD_PERCENTAGE_PROP,
    METHOD_PROP,
    PROVISIONAL_PROP,
    SHADOW_PERCENTAGE_PROP,
)

logger = logging.getLogger(__name__)
_LAYER = "masks"
_SHOWN = 128
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
    """Return the rows of a published item.

    Raises:
        ValueError, LookupError, TypeError: it is not in the form in which items are published.
    """
    properties, mask = item["properties"], item["assets"][MASK_ASSET]
    moment, tile = str(properties["datetime"]), str(properties["s2:mgrs_tile"])
    keys = item_keys(str(item["id"]), tile, int(moment[:4]))
    name = str(mask["href"]).rpartition("/")[2]
    west, south, east, north = transform_bounds(str(mask["proj:code"]), "EPSG:4326", *mask["proj:bbox"])
    box = build_box(west - _PIXEL_DEG, south - _PIXEL_DEG, east + _PIXEL_DEG, north + _PIXEL_DEG)
    shape = build_shape(box)
    return [
        IndexRow(
            location=f"{keys.prefix}{name}".removeprefix(f"{COLLECTION_ID}/"),
            geometry=shapely.to_wkb(part),
            id=keys.item_id,
            datetime=moment,
            tile=tile,
            crs=str(mask["proj:code"]),
            method=str(properties[METHOD_PROP]),
            provisional=bool(properties.get(PROVISIONAL_PROP, False)),
            clear=float(properties[CLEAR_PERCENTAGE_PROP]),
            cloud=float(properties[CLOUD_PERCENTAGE_PROP]),
            shadow=float(properties[SHADOW_PERCENTAGE_PROP]),
        )
        for part in getattr(shape, "geoms", (shape,))
    ]


def build_rows_or_warn(item: Item) -> list[IndexRow]:
    """Return the rows of a published item; log a warning and return none if it is malformed."""
    try:
        return build_rows(item)
    except (CloudmaskError, *_UNFIT) as error:
        logger.warning(
            "left out of %s: %s: %s", TILE_INDEX_KEY, make_printable(item.get("id"), _SHOWN), error
        )
        return []


def rebuild_tile_index(store: ObjectStore, rows: Iterable[IndexRow]) -> None:
    """Write the index with ``rows`` for everything that is published, and the style.

    Raises:
        StoreUnavailable, StoreRefused: the index is unchanged.
    """
    body = encode_rows(rows)
    run_steps(swap_steps(store, TILE_INDEX_KEY, lambda _: body, GEOPACKAGE_MEDIA_TYPE))
    store.write_object(STYLE_KEY, build_style(), QML_MEDIA_TYPE)


def update_tile_index(store: ObjectStore, publisher: Publisher, changed: Sequence[ItemKeys]) -> None:
    """Update the rows of the years of ``changed`` items to match their catalogs; the changed items are read.

    If the index is new, the collection is written again to list it.

    Raises:
        StoreUnavailable, StoreRefused: the index is unchanged; ``cloudmask index`` rebuilds it.
    """
    ids_by_year: dict[YearKeys, set[str]] = {}
    for keys in changed:
        ids_by_year.setdefault(keys.year_keys, set()).add(keys.item_id)
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
    style = build_style()
    run_steps(swap_steps(store, STYLE_KEY, lambda _: style, QML_MEDIA_TYPE))
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
    """Return the rows of a GeoPackage that ``encode_rows`` wrote.

    Raises:
        ValueError, RuntimeError, LookupError, TypeError: it is a different file.
    """
    import pyogrio  # noqa: PLC0415 - see encode_rows

    if body[_APPLICATION_ID] != b"GPKG":
        raise ValueError("is no GeoPackage")
    # GDAL warns about a GeoPackage in memory, because it has no suffix.
    with tempfile.NamedTemporaryFile(suffix=".gpkg") as file:
        file.write(body)
        file.flush()
        meta, _, geometries, columns = pyogrio.raw.read(file.name, layer=_LAYER)
    values = dict(zip(meta["fields"], (column.tolist() for column in columns), strict=True))
    named = zip(*(values[column.name] for column in _COLUMNS), geometries, strict=True)
    names = [*(column.name for column in _COLUMNS), "geometry"]
    return [IndexRow(**dict(zip(names, each, strict=True))) for each in named]


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
