"""The published item, derived from its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from flows.masking.parameters import MaskParameters
from flows.masking.statistics import MaskStatistics
from flows.scene.granule import Granule
from flows.scene.scene import Scene
from flows.stac.asset_fields import (
    AssetFile,
    build_mask_asset,
    build_preview_asset,
    build_probability_asset,
)
from flows.stac.layout import CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, ItemKeys
from flows.stac.links import GEOJSON_MEDIA_TYPE, CatalogContext, Link
from flows.stac.source_item import Item, hash_item
from flows.stac.titles import build_item_title
from stac_ext import cloudmask

__all__ = ["AssetFile", "DerivedItemParts", "build_derived_item", "build_fingerprint", "select_parameters"]

ALGORITHM_VERSION = 1
"""Raised with every change that gives other pixels for the same inputs, so that masks are made anew."""

STAC_VERSION = "1.1.0"
_EXTENSIONS = "https://stac-extensions.github.io/"
PROJECTION_URI = f"{_EXTENSIONS}projection/v2.0.0/schema.json"
EXTENSION_URIS = (
    PROJECTION_URI,
    f"{_EXTENSIONS}classification/v1.1.0/schema.json",
    f"{_EXTENSIONS}file/v2.1.0/schema.json",
    f"{_EXTENSIONS}processing/v1.2.0/schema.json",
    f"{_EXTENSIONS}timestamps/v1.1.0/schema.json",
    cloudmask.SCHEMA_URI,
)
"""Extensions of every published item beside those of its source."""

METHOD_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "s2cloudless": ("cloud_probability_pct", "dark_nir_reflectance", "shadow_distance_m", "buffer_m"),
    "cloud-score-plus": ("clear_score", "dark_nir_reflectance", "shadow_distance_m", "buffer_m"),
    "csmask": ("buffer_m",),
}
"""The thresholds that a method uses; no other changes its masks."""


@dataclass(frozen=True, slots=True)
class DerivedItemParts:
    """What a published item is made of; ``source_item`` is free of signatures.

    ``now`` is when the mask was made, ``created`` when the scene was first published, None for now.
    """

    source_item: Item
    scene: Scene
    keys: ItemKeys
    method: str
    parameters: MaskParameters
    granule: Granule
    statistics: MaskStatistics
    software: Mapping[str, str]
    mask: AssetFile
    preview: AssetFile
    probability: AssetFile | None
    now: datetime
    created: datetime | None
    fingerprint: str
    context: CatalogContext


def build_fingerprint(source_item: Item, method: str, parameters: MaskParameters) -> str:
    """SHA-256, in hex, of everything that the mask follows from: equal ones need not be made again."""
    identity = {
        "algorithm": ALGORITHM_VERSION,
        "source": hash_item(source_item),
        "method": method,
        "parameters": select_parameters(method, parameters),
    }
    return sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()


def select_parameters(method: str, parameters: MaskParameters) -> dict[str, float]:
    """The thresholds that ``method`` uses, by name."""
    values = asdict(parameters)
    return {name: values[name] for name in METHOD_PARAMETERS[method]}


def build_derived_item(parts: DerivedItemParts) -> Item:
    """The item as it is published: the source's properties and assets, the mask first."""
    source = parts.source_item
    item: Item = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _merge_extensions(source.get("stac_extensions", ())),
        "id": parts.scene.id,
        "geometry": source["geometry"],
    }
    if "bbox" in source:
        item["bbox"] = source["bbox"]
    item["properties"] = _build_properties(parts)
    item["collection"] = COLLECTION_ID
    item["links"] = _build_links(parts)
    item["assets"] = _build_assets(parts)
    return item


def _build_properties(parts: DerivedItemParts) -> dict[str, Any]:
    properties = dict(parts.source_item["properties"])
    epsg = properties.pop("proj:epsg", None)
    if epsg is not None:
        properties.setdefault("proj:code", f"EPSG:{epsg}")
    properties.setdefault("title", build_item_title(parts.scene.id))
    properties["created"] = _format_instant(parts.created or parts.now)
    properties["updated"] = _format_instant(parts.now)
    properties["processing:software"] = dict(parts.software)
    properties["processing:datetime"] = _format_instant(parts.now)
    properties[cloudmask.METHOD_PROP] = parts.method
    properties[cloudmask.PARAMETERS_PROP] = select_parameters(parts.method, parts.parameters)
    image_ids = parts.granule.image_ids
    if image_ids:
        properties[cloudmask.GRANULE_PROP] = image_ids[0]
    if len(image_ids) > 1:
        properties[cloudmask.GRANULES_PROP] = list(image_ids)
    statistics = parts.statistics
    if statistics.nodata_percentage < 100:
        properties[cloudmask.CLOUD_PERCENTAGE_PROP] = statistics.cloud_percentage
        properties[cloudmask.SHADOW_PERCENTAGE_PROP] = statistics.shadow_percentage
        properties[cloudmask.CLEAR_PERCENTAGE_PROP] = statistics.clear_percentage
    properties[cloudmask.NODATA_PERCENTAGE_PROP] = statistics.nodata_percentage
    properties[cloudmask.FINGERPRINT_PROP] = parts.fingerprint
    return properties


def _build_links(parts: DerivedItemParts) -> list[Link]:
    context, key, leaf = parts.context, parts.keys.item, parts.keys.leaf
    title = build_item_title(parts.scene.id)
    links = [
        context.link("root", CATALOG_KEY, key, "Catalog"),
        context.link("parent", leaf.catalog, key, f"{leaf.tile} in {leaf.year}"),
        context.link("collection", COLLECTION_KEY, key, "Cloud masks"),
        *context.self_links(key, title, GEOJSON_MEDIA_TYPE),
    ]
    for link in parts.source_item.get("links", ()):
        rel, href = link.get("rel"), link.get("href", "")
        if rel == "self" and "://" in href:
            derived_from = {"rel": "derived_from", "href": href, "type": GEOJSON_MEDIA_TYPE}
            links.append({**derived_from, "title": f"Source item {parts.scene.id}"})
        elif rel == "license":
            links.append({"title": "Licence", **link})
    return links


def _build_assets(parts: DerivedItemParts) -> dict[str, Any]:
    """The mask first: STAC Browser draws the first asset that it can."""
    key, grid = parts.keys.item, parts.scene.grid
    href = parts.context.href
    assets = {
        "cloudmask": build_mask_asset(parts.mask, href(parts.mask.key, key), grid),
        "cloudmask-preview": build_preview_asset(parts.preview, href(parts.preview.key, key)),
    }
    if parts.probability is not None:
        probability = parts.probability
        assets["cloud-probability"] = build_probability_asset(probability, href(probability.key, key), grid)
    return assets | {name: asset for name, asset in parts.source_item["assets"].items() if name not in assets}


def _merge_extensions(source_uris: Any) -> list[str]:
    """The source's extensions, less older versions of ours, then ours."""
    ours = {uri.rsplit("/", 2)[0] for uri in EXTENSION_URIS}
    kept = [uri for uri in source_uris if uri.rsplit("/", 2)[0] not in ours]
    return [*dict.fromkeys(kept), *EXTENSION_URIS]


def _format_instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
