"""The catalogs above the items, each as a function of what it links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pc_cloudmask.catalog.coverage import LISTED, MEASURED, Coverage, build_summaries
from pc_cloudmask.catalog.fields import (
    GEOJSON_MEDIA_TYPE,
    STAC_VERSION,
    CatalogContext,
    Link,
    build_classes,
    collection_title,
    read_catalog_template,
    read_collection_template,
    root_title,
)
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    COLLECTION_ID,
    COLLECTION_KEY,
    YearKeys,
    build_item_title,
    build_tile_title,
    build_year_title,
    build_zone_title,
    tile_catalog_key,
    zone_catalog_key,
)
from pc_cloudmask.masking.classes import CLASS_STYLES

Document = dict[str, Any]
PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"


def build_root_catalog(context: CatalogContext) -> Document:
    """The root, which links the collection alone."""
    catalog = read_catalog_template()
    catalog["links"] = [
        context.link("root", CATALOG_KEY, CATALOG_KEY, root_title()),
        *context.self_links(CATALOG_KEY, root_title()),
        context.link("child", COLLECTION_KEY, CATALOG_KEY, collection_title()),
    ]
    return catalog


def build_collection(
    context: CatalogContext, zones: Iterable[str], coverage: Coverage | None, mirror_keys: Sequence[str] = ()
) -> Document:
    """The collection of all masks: a catalog for each zone and band below it.

    Without ``coverage`` nothing is published yet: the extent is then the whole Earth at any time.
    ``mirror_keys`` are the parts of the geoparquet mirror.
    """
    collection = read_collection_template()
    collection["item_assets"]["cloudmask"]["classification:classes"] = build_classes()
    collection["renders"]["cloudmask"]["colormap"] = _build_colormap()
    if coverage is not None:
        collection["extent"] = {
            "spatial": {"bbox": _build_boxes(coverage)},
            "temporal": {"interval": [list(coverage.interval)]},
        }
        collection["summaries"] = _build_summaries(collection["summaries"], coverage)
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
    """The catalog of one grid zone and latitude band: its tiles."""
    key = zone_catalog_key(zone)
    title = build_zone_title(zone)
    links = _links_up(context, key, title, COLLECTION_KEY, collection_title())
    for tile in sorted(set(tiles)):
        links.append(context.link("child", tile_catalog_key(tile), key, build_tile_title(tile)))
    return _build_catalog(f"{COLLECTION_ID}-{zone}", title, f"Cloud masks of the tiles in {title}", links)


def build_tile_catalog(context: CatalogContext, tile: str, years: Iterable[int]) -> Document:
    """The catalog of one tile: its years."""
    key, zone = tile_catalog_key(tile), tile[:3]
    title = build_tile_title(tile)
    links = _links_up(context, key, title, zone_catalog_key(zone), build_zone_title(zone))
    for year in sorted(set(years)):
        year_keys = YearKeys(tile, year)
        links.append(context.link("child", year_keys.catalog, key, build_year_title(year_keys)))
    return _build_catalog(f"{COLLECTION_ID}-{tile}", title, f"Cloud masks of tile {tile} by year", links)


def build_year_catalog(context: CatalogContext, year_keys: YearKeys, item_ids: Iterable[str]) -> Document:
    """The year: the items of one tile and year, by time."""
    title = build_year_title(year_keys)
    links = _links_up(
        context, year_keys.catalog, title, year_keys.tile_catalog, build_tile_title(year_keys.tile)
    )
    for item_title, item_id in sorted((build_item_title(item_id), item_id) for item_id in set(item_ids)):
        key = f"{year_keys.prefix}{item_id}/{item_id}.json"
        links.append(context.link("item", key, year_keys.catalog, item_title, GEOJSON_MEDIA_TYPE))
    description = f"Cloud masks of tile {year_keys.tile}, acquired in {year_keys.year}"
    return _build_catalog(f"{COLLECTION_ID}-{year_keys.tile}-{year_keys.year:04d}", title, description, links)


def _build_catalog(catalog_id: str, title: str, description: str, links: list[Link]) -> Document:
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalog_id,
        "title": title,
        "description": description,
        "links": links,
    }


def _build_colormap() -> dict[str, list[int]]:
    """The classes as a renderer wants them: red, green, blue, alpha by value."""
    return {str(value.value): [*style.color, 255 * style.opaque] for value, style in CLASS_STYLES.items()}


def _build_summaries(template: dict[str, Any], coverage: Coverage) -> dict[str, Any]:
    """What the template says of all items, and of what items differ in, what ``coverage`` says."""
    common = {name: value for name, value in template.items() if name not in (*LISTED, *MEASURED)}
    return {**common, **build_summaries(coverage)}


def _build_boxes(coverage: Coverage) -> list[list[float]]:
    """The whole extent, then that of each zone and band: what STAC Browser draws on the collection's map."""
    boxes = [list(box) for _, box in sorted(coverage.boxes.items())]
    return [list(coverage.bbox), *(boxes if len(boxes) > 1 else [])]


def _build_mirror(context: CatalogContext, keys: Sequence[str]) -> dict[str, Any]:
    """An asset for each part of the geoparquet mirror."""
    return {
        f"items-{number}": {
            "href": context.href(key, COLLECTION_KEY),
            "type": PARQUET_MEDIA_TYPE,
            "title": "Items as geoparquet",
            "roles": ["collection-mirror"],
        }
        for number, key in enumerate(sorted(keys))
    }


def _links_up(
    context: CatalogContext, key: str, title: str, parent_key: str, parent_title: str
) -> list[Link]:
    """Links of the document at ``key`` to the root, its parent and, with a public URL, itself."""
    return [
        context.link("root", CATALOG_KEY, key, root_title()),
        context.link("parent", parent_key, key, parent_title),
        *context.self_links(key, title),
    ]
