"""The catalogs above the items, each as a function of what it links."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from flows.masking.classes import CLASS_STYLES
from flows.stac.asset_fields import build_classes
from flows.stac.coverage import Coverage, build_summaries
from flows.stac.layout import CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, LeafKeys
from flows.stac.links import GEOJSON_MEDIA_TYPE, CatalogContext, Link
from flows.stac.titles import build_band_title, build_item_title, build_tile_title

__all__ = [
    "CatalogContext",
    "build_band_catalog",
    "build_collection",
    "build_root_catalog",
    "build_tile_catalog",
    "build_year_catalog",
]

Document = dict[str, Any]

STAC_VERSION = "1.1.0"
PARQUET_MEDIA_TYPE = "application/vnd.apache.parquet"


def build_root_catalog(context: CatalogContext) -> Document:
    """The root, which links the collection alone."""
    catalog = _read_template("catalog.json")
    title = catalog["title"]
    catalog["links"] = [
        context.link("root", CATALOG_KEY, CATALOG_KEY, title),
        *context.self_links(CATALOG_KEY, title),
        context.link("child", COLLECTION_KEY, CATALOG_KEY, _read_template("collection.json")["title"]),
    ]
    return catalog


def build_collection(
    context: CatalogContext, bands: Sequence[str], coverage: Coverage | None, mirror_keys: Sequence[str] = ()
) -> Document:
    """The collection of all masks: a catalog for each zone and band below it.

    Without ``coverage`` nothing is published yet: the extent is then the whole Earth at any time.
    ``mirror_keys`` are the parts of the geoparquet mirror.
    """
    collection = _read_template("collection.json")
    collection["description"] = _read_text("description.md").strip()
    collection["item_assets"]["cloudmask"]["classification:classes"] = build_classes()
    if coverage is not None:
        collection["extent"] = {
            "spatial": {"bbox": [list(coverage.bbox)]},
            "temporal": {"interval": [list(coverage.interval)]},
        }
        collection["summaries"].update(build_summaries(coverage))
    colormap = {str(value.value): [*style.color, 255 * style.opaque] for value, style in CLASS_STYLES.items()}
    collection["renders"]["cloudmask"]["colormap"] = colormap
    mirror = {
        f"items-{number}": {
            "href": context.href(key, COLLECTION_KEY),
            "type": PARQUET_MEDIA_TYPE,
            "title": "Items as geoparquet",
            "roles": ["collection-mirror"],
        }
        for number, key in enumerate(sorted(mirror_keys))
    }
    if mirror:
        collection["assets"] = mirror
    links = _links_up(context, COLLECTION_KEY, collection["title"], CATALOG_KEY, _root_title())
    for band in sorted(set(bands)):
        key = f"{COLLECTION_ID}/{band}/catalog.json"
        links.append(context.link("child", key, COLLECTION_KEY, build_band_title(band)))
    collection["links"] = links + collection["links"]
    return collection


def build_band_catalog(context: CatalogContext, band: str, tiles: Sequence[str]) -> Document:
    """The catalog of one grid zone and latitude band: its tiles."""
    key = f"{COLLECTION_ID}/{band}/catalog.json"
    title = build_band_title(band)
    links = _links_up(context, key, title, COLLECTION_KEY, _collection_title())
    for tile in sorted(set(tiles)):
        links.append(context.link("child", LeafKeys(tile, 0).tile_catalog, key, build_tile_title(tile)))
    return _build_catalog(f"{COLLECTION_ID}-{band}", title, f"Cloud masks of the tiles in {title}", links)


def build_tile_catalog(context: CatalogContext, tile: str, years: Sequence[int]) -> Document:
    """The catalog of one tile: its years."""
    keys = LeafKeys(tile, 0)
    title = build_tile_title(tile)
    links = _links_up(context, keys.tile_catalog, title, keys.band_catalog, build_band_title(keys.band))
    for year in sorted(set(years)):
        leaf = LeafKeys(tile, year)
        links.append(context.link("child", leaf.catalog, keys.tile_catalog, f"{tile} in {year}"))
    return _build_catalog(f"{COLLECTION_ID}-{tile}", title, f"Cloud masks of tile {tile} by year", links)


def build_year_catalog(context: CatalogContext, leaf: LeafKeys, item_ids: Sequence[str]) -> Document:
    """The leaf: the items of one tile and year, by time."""
    title = f"{leaf.tile} in {leaf.year}"
    links = _links_up(context, leaf.catalog, title, leaf.tile_catalog, build_tile_title(leaf.tile))
    for item_title, item_id in sorted((build_item_title(item_id), item_id) for item_id in set(item_ids)):
        key = f"{leaf.prefix}{item_id}/{item_id}.json"
        links.append(context.link("item", key, leaf.catalog, item_title, GEOJSON_MEDIA_TYPE))
    description = f"Cloud masks of tile {leaf.tile}, acquired in {leaf.year}"
    return _build_catalog(f"{COLLECTION_ID}-{leaf.tile}-{leaf.year:04d}", title, description, links)


def _build_catalog(catalog_id: str, title: str, description: str, links: list[Link]) -> Document:
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalog_id,
        "title": title,
        "description": description,
        "links": links,
    }


def _links_up(
    context: CatalogContext, key: str, title: str, parent_key: str, parent_title: str
) -> list[Link]:
    """Links of the document at ``key`` to the root, its parent and, with a public URL, itself."""
    return [
        context.link("root", CATALOG_KEY, key, _root_title()),
        context.link("parent", parent_key, key, parent_title),
        *context.self_links(key, title),
    ]


def _root_title() -> str:
    return str(_read_template("catalog.json")["title"])


def _collection_title() -> str:
    return str(_read_template("collection.json")["title"])


def _read_template(name: str) -> Document:
    """A fresh copy of a template: builders change it."""
    document: Document = orjson.loads(_read_text(name))
    return document


@cache
def _read_text(name: str) -> str:
    return files("catalog_templates").joinpath(name).read_text("utf-8")
