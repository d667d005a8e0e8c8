"""The catalogs above the items, each built from the names that it links, and the coverage of their items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeVar

from pc_cloudmask.catalog.fields import (
    GEOJSON_MEDIA_TYPE,
    STAC_VERSION,
    CatalogContext,
    Document,
    Link,
    build_classes,
    collection_title,
    read_collection_template,
    read_template,
    root_title,
)
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    COLLECTION_ID,
    COLLECTION_KEY,
    STYLE_KEY,
    TILE_INDEX_KEY,
    ItemKeys,
    YearKeys,
    build_item_title,
    build_tile_title,
    build_year_title,
    build_zone_title,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.masking.classes import CLASS_STYLES
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.scene.geometry import BBox
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import TILE_FORM
from pc_cloudmask.source.fields import is_number
from stac_ext import cloudmask

GEOPACKAGE_MEDIA_TYPE, QML_MEDIA_TYPE = "application/geopackage+sqlite3", "application/xml"
#: Name, media type, title and role of the collection's assets that present all masks as one layer.
_INDEX_ASSETS = {
    TILE_INDEX_KEY: ("masks", GEOPACKAGE_MEDIA_TYPE, "All masks as one layer, for GDAL and QGIS", "index"),
    STYLE_KEY: ("masks-style", QML_MEDIA_TYPE, "Style of the masks for QGIS", "style"),
}
PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"
Range = tuple[float, float]
T = TypeVar("T")
#: Properties whose values the collection lists.
LISTED = ("platform", cloudmask.METHOD_PROP, "s2:processing_baseline", "proj:code")
#: Properties whose minimum and maximum the collection gives.
MEASURED = (
    cloudmask.CLOUD_PERCENTAGE_PROP,
    cloudmask.SHADOW_PERCENTAGE_PROP,
    cloudmask.CLEAR_PERCENTAGE_PROP,
    cloudmask.NODATA_PERCENTAGE_PROP,
    "eo:cloud_cover",
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where and when items are, and which properties they have.

    Merging two coverages gives the coverage of all their items, in any order and however often, so the collection can
    be updated from its own document alone. ``bbox`` is ``(west, south, east, north)`` in degrees; it spans all
    longitudes if items reach beyond the antimeridian, because a union that crosses it would depend on the order of
    merging. ``interval`` holds RFC 3339 instants in UTC in one form that sorts as text. ``boxes`` are the bboxes of
    single zones, which show on a map where the masks are when ``bbox`` spans oceans.
    """

    bbox: BBox
    interval: tuple[str, str]
    values: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    ranges: Mapping[str, Range] = field(default_factory=dict, hash=False)
    boxes: Mapping[str, BBox] = field(default_factory=dict, hash=False)

    def merge(self, other: Coverage) -> Coverage:
        """Return the coverage of the items of both."""
        starts, ends = zip(self.interval, other.interval, strict=True)
        return Coverage(
            _merge_boxes(self.bbox, other.bbox),
            (min(starts), max(ends)),
            _merge_values(self.values, other.values, frozenset.union),
            _merge_values(self.ranges, other.ranges, lambda a, b: (min(a[0], b[0]), max(a[1], b[1]))),
            _merge_values(self.boxes, other.boxes, _merge_boxes),
        )


def read_coverage(item: dict[str, Any]) -> Coverage:
    """Return the coverage of one published item; properties of an unexpected type are ignored.

    It raises LookupError, TypeError or ValueError if the item does not say where and when it is.
    """
    west, south, east, north = _read_bbox(item["bbox"])
    if west > east or west < -180 or east > 180:
        west, east = -180.0, 180.0
    properties = item["properties"]
    instant = _format_instant(properties["datetime"])
    tile = properties.get("s2:mgrs_tile")
    box = (west, south, east, north)
    numbers = {name: properties[name] for name in MEASURED if is_number(properties.get(name))}
    return Coverage(
        box,
        (instant, instant),
        {name: frozenset({properties[name]}) for name in LISTED if isinstance(properties.get(name), str)},
        {name: (_read_number(value), _read_number(value)) for name, value in numbers.items()},
        {tile[:3]: box} if isinstance(tile, str) and TILE_FORM.fullmatch(tile) else {},
    )


def read_collection_coverage(collection: dict[str, Any] | None) -> Coverage | None:
    """Return the coverage a collection declares, or None if it is missing, empty or unreadable."""
    if collection is None:
        return None
    try:
        extent, summaries = collection["extent"], collection["summaries"]
        start, end = map(_format_instant, extent["temporal"]["interval"][0])
        return Coverage(
            _read_bbox(extent["spatial"]["bbox"][0]),
            (start, end),
            {name: frozenset(map(_check_text, summaries[name])) for name in LISTED if name in summaries},
            {
                name: (_read_number(summaries[name]["minimum"]), _read_number(summaries[name]["maximum"]))
                for name in MEASURED
                if name in summaries
            },
            {
                link["href"].split("/")[-2]: _read_bbox(link["bbox"])
                for link in collection["links"]
                if link["rel"] == "child" and "bbox" in link
            },
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def merge_coverages(coverages: Iterable[Coverage | None]) -> Coverage | None:
    """Return one coverage that includes all of them; None if there are none."""
    found = list(filter(None, coverages))
    return reduce(Coverage.merge, found) if found else None


def build_summaries(coverage: Coverage) -> dict[str, Any]:
    """Return the coverage as a collection's summaries, lists sorted."""
    listed = {name: sorted(coverage.values[name]) for name in LISTED if name in coverage.values}
    ranges = {name: coverage.ranges[name] for name in MEASURED if name in coverage.ranges}
    return {**listed, **{name: {"minimum": least, "maximum": most} for name, (least, most) in ranges.items()}}


def _merge_values(one: Mapping[str, T], other: Mapping[str, T], merge: Callable[[T, T], T]) -> dict[str, T]:
    """Return the entries of both, merging those that both have."""
    return {**one, **other, **{name: merge(one[name], other[name]) for name in one.keys() & other.keys()}}


def _merge_boxes(one: BBox, other: BBox) -> BBox:
    return (min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3]))


def _read_bbox(bbox: Any) -> BBox:
    west, south, east, north = map(_read_number, bbox if len(bbox) == 4 else (*bbox[:2], *bbox[3:5]))
    return (west, south, east, north)


def _format_instant(text: Any) -> str:
    """Return an RFC 3339 instant in a form that sorts by time as text."""
    moment = parse_instant(_check_text(text))
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text should be")
    return value


def _read_number(value: Any) -> float:
    """Return a float that merging in any order leaves the same: not an equal integer, not a negative zero."""
    if not is_number(value):
        raise TypeError(f"{type(value).__name__} where a finite number should be")
    return float(value) + 0.0


def build_root_catalog(context: CatalogContext) -> Document:
    """Return the root catalog, which links only the collection."""
    catalog = read_template("catalog.json")
    catalog["links"] = [
        context.link("root", CATALOG_KEY, CATALOG_KEY, root_title()),
        *context.self_links(CATALOG_KEY, root_title()),
        context.link("child", COLLECTION_KEY, CATALOG_KEY, collection_title()),
    ]
    return catalog


def build_collection(
    context: CatalogContext, zones: Iterable[str], coverage: Coverage | None, mirror_keys: Sequence[str] = ()
) -> Document:
    """Return the collection of all masks, which links a catalog for each zone.

    Without ``coverage`` nothing is published yet, and the extent is the entire Earth at any time. ``mirror_keys`` are
    the parts of the geoparquet mirror, the tile index and its style.
    """
    published = (
        coverage.values.get(cloudmask.METHOD_PROP, frozenset()) if coverage is not None else frozenset()
    )
    collection = read_collection_template(published & METHODS.keys() or METHODS)
    collection["summaries"][cloudmask.METHOD_PROP] = list(METHODS)
    collection["item_assets"]["cloudmask"]["classification:classes"] = build_classes()
    # Red, green, blue and alpha of each class.
    colors = {str(value.value): [*style.color, 255 * style.opaque] for value, style in CLASS_STYLES.items()}
    collection["renders"]["cloudmask"]["colormap"] = colors
    if coverage is not None:
        collection["extent"] = {
            "spatial": {"bbox": _build_boxes(coverage)},
            "temporal": {"interval": [list(coverage.interval)]},
        }
        common = {k: v for k, v in collection["summaries"].items() if k not in (*LISTED, *MEASURED)}
        collection["summaries"] = common | build_summaries(coverage)
    if mirror_keys:
        collection["assets"] = _build_mirror(context, mirror_keys)
    links = _links_up(context, COLLECTION_KEY, collection_title(), CATALOG_KEY, root_title())
    boxes = coverage.boxes if coverage is not None else {}
    for zone in sorted(set(zones)):
        key = zone_catalog_key(zone)
        link = context.link("child", key, COLLECTION_KEY, build_zone_title(zone))
        links.append(link | {"bbox": list(boxes[zone])} if zone in boxes else link)
    collection["links"] = links + collection["links"]
    return collection


def build_zone_catalog(context: CatalogContext, zone: str, tiles: Iterable[str]) -> Document:
    """Return the catalog of one zone, which links its tiles."""
    key, title = zone_catalog_key(zone), build_zone_title(zone)
    links = _links_up(context, key, title, COLLECTION_KEY, collection_title())
    for tile in sorted(set(tiles)):
        links.append(context.link("child", tile_catalog_key(tile), key, build_tile_title(tile)))
    return _build_catalog(zone, title, f"Cloud masks of the tiles in {title}", links)


def build_tile_catalog(context: CatalogContext, tile: str, years: Iterable[int]) -> Document:
    """Return the catalog of one tile, which links its years."""
    key, title, zone = tile_catalog_key(tile), build_tile_title(tile), tile[:3]
    links = _links_up(context, key, title, zone_catalog_key(zone), build_zone_title(zone))
    for year in sorted(set(years)):
        year_keys = YearKeys(tile, year)
        links.append(context.link("child", year_keys.catalog, key, build_year_title(year_keys)))
    return _build_catalog(tile, title, f"Cloud masks of tile {tile} by year", links)


def build_year_catalog(context: CatalogContext, year_keys: YearKeys, item_ids: Iterable[str]) -> Document:
    """Return the catalog of one tile and year, which links its items by time."""
    tile, key, title = year_keys.tile, year_keys.catalog, build_year_title(year_keys)
    links = _links_up(context, key, title, tile_catalog_key(tile), build_tile_title(tile))
    for item_title, item_id in sorted((build_item_title(item_id), item_id) for item_id in set(item_ids)):
        item_key = ItemKeys(year_keys, item_id).item
        links.append(context.link("item", item_key, key, item_title, GEOJSON_MEDIA_TYPE))
    description = f"Cloud masks of tile {tile}, acquired in {year_keys.year}"
    return _build_catalog(f"{tile}-{year_keys.year:04d}", title, description, links)


def _build_catalog(name: str, title: str, description: str, links: list[Link]) -> Document:
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": f"{COLLECTION_ID}-{name}",
        "title": title,
        "description": description,
        "links": links,
    }


def _build_boxes(coverage: Coverage) -> list[list[float]]:
    """Return the full extent, then the extent of each zone: STAC Browser draws them on the collection's map."""
    boxes = [list(box) for _, box in sorted(coverage.boxes.items())]
    return [list(coverage.bbox), *(boxes if len(boxes) > 1 else [])]


def _build_mirror(context: CatalogContext, keys: Sequence[str]) -> dict[str, Any]:
    """Return an asset for each part of the geoparquet mirror, for the tile index and for its style."""
    parts = sorted(set(keys) - _INDEX_ASSETS.keys())
    assets = {
        key: (f"items-{number}", PARQUET_MEDIA_TYPE, "Items as geoparquet", "collection-mirror")
        for number, key in enumerate(parts)
    }
    assets |= {key: fields for key, fields in _INDEX_ASSETS.items() if key in keys}
    return {
        name: {"href": context.href(key, COLLECTION_KEY), "type": media_type, "title": title, "roles": [role]}
        for key, (name, media_type, title, role) in assets.items()
    }


def _links_up(
    context: CatalogContext, key: str, title: str, parent_key: str, parent_title: str
) -> list[Link]:
    """Return the links of the document at ``key`` to the root, its parent and, with a public URL, itself."""
    return [
        context.link("root", CATALOG_KEY, key, root_title()),
        context.link("parent", parent_key, key, parent_title),
        *context.self_links(key, title),
    ]
