"""The published item, derived from its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from itertools import chain
from typing import Any

import orjson
import pystac

from pc_cloudmask.catalog.access import add_alternates, add_tiles
from pc_cloudmask.catalog.fields import (
    GEOJSON_MEDIA_TYPE,
    STAC_VERSION,
    AssetFile,
    CatalogContext,
    Link,
    build_mask_asset,
    build_preview_asset,
    build_probability_asset,
    collection_title,
    root_title,
)
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    COLLECTION_ID,
    COLLECTION_KEY,
    ItemKeys,
    build_item_title,
    build_year_title,
)
from pc_cloudmask.masking.classes import MaskParameters, MaskStatistics
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.scene.geometry import find_bbox
from pc_cloudmask.scene.image import L2A_LEVEL, EarthEngineImage
from pc_cloudmask.scene.query import format_instant
from pc_cloudmask.scene.scene import MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET, Scene
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.item import hash_item
from pc_cloudmask.storage.store import BucketPlace
from stac_ext import cloudmask

#: Increased with every change that gives other pixels for the same inputs, so that masks are made again.
ALGORITHM_VERSION = 1


@dataclass(frozen=True, slots=True)
class DerivedItemParts:
    """Everything that a published item is built from.

    ``source_item`` is the result of ``keep_valid`` for an item without signatures, and ``scene`` that of ``read_scene``
    for it. ``now`` is when the mask was made, ``created`` when the scene was first published (None: now).
    ``provisional`` says that a better method will make the mask again later.
    ``bucket`` is where the files can also be read as objects, ``tiler_url`` the template of a tiler's URL, which needs
    a public URL; None leaves either out of the item.
    """

    source_item: Item
    scene: Scene
    keys: ItemKeys
    method: str
    parameters: MaskParameters
    ee_image: EarthEngineImage
    statistics: MaskStatistics
    software: Mapping[str, str]
    mask: AssetFile
    preview: AssetFile
    probability: AssetFile | None
    now: datetime
    created: datetime | None
    fingerprint: str
    context: CatalogContext
    provisional: bool = False
    bucket: BucketPlace | None = None
    tiler_url: str | None = None


def build_fingerprint(source_item: Item, method: str, parameters: MaskParameters) -> str:
    """Return the SHA-256, in hex, of everything that determines the mask: equal ones need not be made again."""
    identity = {
        "algorithm": ALGORITHM_VERSION,
        "source": hash_item(source_item),
        "method": method,
        "parameters": select_parameters(method, parameters),
    }
    return sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()


def select_parameters(method: str, parameters: MaskParameters) -> dict[str, float | str]:
    """Return by name the thresholds that ``method`` uses, and those of its choices that differ from the default."""
    values, defaults = asdict(parameters), asdict(MaskParameters())
    # Masks were published before there was a choice: fingerprints for the default must stay the same.
    chosen = (name for name in METHODS[method].choices if values[name] != defaults[name])
    return {name: values[name] for name in (*METHODS[method].parameters, *chosen)}


def build_derived_item(parts: DerivedItemParts) -> Item:
    """Return the item to publish: the source's properties and assets, with the mask first."""
    source = parts.source_item
    item = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": source["stac_extensions"],
        "id": parts.scene.id,
        "geometry": source["geometry"],
        "bbox": source.get("bbox") or find_bbox(source["geometry"]),
        "properties": _build_properties(parts),
        "collection": COLLECTION_ID,
        "links": _build_links(parts),
        "assets": _build_assets(parts),
    }
    if parts.bucket:
        item = add_alternates(item, parts.bucket, _find_keys(parts))
    return add_tiles(item, parts.tiler_url) if parts.tiler_url else item


def _find_keys(parts: DerivedItemParts) -> dict[str, str]:
    """Return the keys of our assets' files by the assets' names."""
    files = {MASK_ASSET: parts.mask, PREVIEW_ASSET: parts.preview, PROBABILITY_ASSET: parts.probability}
    return {name: file.key for name, file in files.items() if file}


def _build_properties(parts: DerivedItemParts) -> dict[str, Any]:
    """Return the source's properties except those that describe a mask, then ours."""
    source = parts.source_item["properties"]
    properties = {name: value for name, value in source.items() if not name.startswith(cloudmask.PREFIX)}
    properties.setdefault("title", build_item_title(parts.scene.id))
    now = format_instant(parts.now)
    properties |= {
        "created": format_instant(parts.created or parts.now),
        "updated": now,
        "processing:software": {**properties.get("processing:software", {}), **parts.software},
        "processing:datetime": now,
    }
    parameters = select_parameters(parts.method, parts.parameters)
    if parts.ee_image.level != L2A_LEVEL:
        parameters["nir_level"] = parts.ee_image.level
    item = pystac.Item(parts.scene.id, None, None, parts.now, properties)
    cloudmask.CloudmaskExtension(item).apply(
        parts.method,
        _find_percentages(parts.statistics),
        parameters,
        parts.ee_image.image_ids,
        parts.fingerprint,
        provisional=parts.provisional,
    )
    return item.properties


def _find_percentages(statistics: MaskStatistics) -> cloudmask.Percentages:
    """Return the percentages to publish; those of valid pixels only if there is a valid pixel."""
    shares = (statistics.cloud_percentage, statistics.shadow_percentage, statistics.clear_percentage)
    cloud, shadow, clear = shares if any(shares) else (None, None, None)
    return cloudmask.Percentages(cloud, shadow, clear, statistics.nodata_percentage)


def _build_links(parts: DerivedItemParts) -> list[Link]:
    context, key, year_keys = parts.context, parts.keys.item, parts.keys.year_keys
    title = build_item_title(parts.scene.id)
    return [
        context.link("root", CATALOG_KEY, key, root_title()),
        context.link("parent", year_keys.catalog, key, build_year_title(year_keys)),
        context.link("collection", COLLECTION_KEY, key, collection_title()),
        *context.self_links(key, title, GEOJSON_MEDIA_TYPE),
        *chain.from_iterable(
            _build_source_links(link, parts.scene.id) for link in parts.source_item.get("links", ())
        ),
    ]


def _build_source_links(link: Link, item_id: str) -> list[Link]:
    """Return the links to publish for one link of the source item."""
    if link["rel"] == "self":
        title = f"Source item {item_id}"
        return [{"rel": "derived_from", "href": link["href"], "type": GEOJSON_MEDIA_TYPE, "title": title}]
    if link["rel"] == "license":
        named = {name: link[name] for name in ("type", "title") if isinstance(link.get(name), str)}
        return [{"rel": "license", "href": link["href"], "title": "Licence", **named}]
    return []


def _build_assets(parts: DerivedItemParts) -> dict[str, Any]:
    """Return the assets, the mask first: STAC Browser draws the first one it can."""
    key, grid = parts.keys.item, parts.scene.grid
    href = parts.context.href
    assets = {
        MASK_ASSET: build_mask_asset(parts.mask, href(parts.mask.key, key), grid),
        PREVIEW_ASSET: build_preview_asset(parts.preview, href(parts.preview.key, key)),
    }
    if parts.probability is not None:
        probability = parts.probability
        assets[PROBABILITY_ASSET] = build_probability_asset(probability, href(probability.key, key), grid)
    source = parts.source_item["assets"]
    return assets | {name: asset for name, asset in source.items() if name not in assets}
