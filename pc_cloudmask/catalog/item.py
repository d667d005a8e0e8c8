"""The published item, derived from its source.

It may have further hrefs: where its files are in the bucket, and its mask as map tiles. Both are absolute: a copy of
the catalog elsewhere still leads to the first bucket, and its tiles to the first public URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import pystac

from pc_cloudmask.catalog.fields import (
    EXTENSIONS_URI,
    GEOJSON_MEDIA_TYPE,
    STAC_VERSION,
    AssetFile,
    CatalogContext,
    Fields,
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
from pc_cloudmask.text import unsigned_href
from stac_ext import cloudmask

#: Increased with every change that gives other pixels for the same inputs, so that masks are made again.
ALGORITHM_VERSION = 1
ALTERNATE_URI = f"{EXTENSIONS_URI}/alternate-assets/v1.2.0/schema.json"
STORAGE_URI = f"{EXTENSIONS_URI}/storage/v2.0.0/schema.json"
WEB_MAP_LINKS_URI = f"{EXTENSIONS_URI}/web-map-links/v1.3.0/schema.json"
#: The link to tiles of a map.
TILES_REL = "xyz"
#: Key of the bucket's href in an asset's ``alternate``, and key of its scheme in ``storage:schemes``.
ALTERNATE_NAME, SCHEME_NAME = "s3", "cloudmask-store"
#: The platform that ``storage`` 2.0.0 demands for the type ``aws-s3``, and the form of its buckets' names.
_AWS_PLATFORM = "https://{bucket}.s3.{region}.amazonaws.com"
_AWS_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: Media types of tiles by the suffix of their URL's path.
_TILE_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
#: Suffixes of host names that resolve in one network only.
_PRIVATE_ENDS = (".local", ".internal", ".localhost")


@dataclass(frozen=True, slots=True)
class DerivedItemParts:
    """Everything that a published item is built from.

    ``source_item`` is the result of ``keep_valid`` for an item without signatures, and ``scene`` that of ``read_scene``
    for it. ``now`` is when the mask was made, ``created`` when the scene was first published (None: now).
    ``provisional`` says that a better method will make the mask again later. ``bucket`` is where the files can also be
    read as objects, ``tiler_url`` the template of a tiler's URL, which needs a public URL; None leaves either out.
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
        files = {MASK_ASSET: parts.mask, PREVIEW_ASSET: parts.preview, PROBABILITY_ASSET: parts.probability}
        item = add_alternates(item, parts.bucket, {name: file.key for name, file in files.items() if file})
    return add_tiles(item, parts.tiler_url) if parts.tiler_url else item


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
        *_build_source_links(parts),
    ]


def _build_source_links(parts: DerivedItemParts) -> Iterator[Link]:
    """Yield the links to publish for those of the source item."""
    for link in parts.source_item.get("links", ()):
        if link["rel"] == "self":
            described = {"type": GEOJSON_MEDIA_TYPE, "title": f"Source item {parts.scene.id}"}
            yield {"rel": "derived_from", "href": link["href"], **described}
        elif link["rel"] == "license":
            named = {name: link[name] for name in ("type", "title") if isinstance(link.get(name), str)}
            yield {"rel": "license", "href": link["href"], "title": "Licence", **named}


def _build_assets(parts: DerivedItemParts) -> dict[str, Any]:
    """Return the assets, the mask first: STAC Browser draws the first one it can."""
    key, grid = parts.keys.item, parts.scene.grid
    href = parts.context.href
    assets = {
        MASK_ASSET: build_mask_asset(parts.mask, href(parts.mask.key, key), grid),
        PREVIEW_ASSET: build_preview_asset(parts.preview, href(parts.preview.key, key)),
    }
    if probability := parts.probability:
        assets[PROBABILITY_ASSET] = build_probability_asset(probability, href(probability.key, key), grid)
    source = parts.source_item["assets"]
    return assets | {name: asset for name, asset in source.items() if name not in assets}


def add_alternates(item: Item, place: BucketPlace, keys: Mapping[str, str]) -> Item:
    """Return ``item`` with the S3 href of each asset named in ``keys``, and a description of the bucket.

    The source's own ``storage:`` fields are dropped where ours are added: the schema allows no others next to them, and
    they may follow another version.
    """
    scheme = build_scheme(place)
    refs: Fields = {"storage:refs": [SCHEME_NAME]} if scheme else {}
    assets = {name: _clean_asset(asset) if scheme else asset for name, asset in item["assets"].items()}
    for name, key in keys.items():
        alternate = {"href": f"{place.url}/{key}", "alternate:name": "S3", **refs}
        assets[name] = {**assets[name], "alternate": {ALTERNATE_NAME: alternate}}
    extended = {**item, "assets": assets, "stac_extensions": [*item["stac_extensions"], ALTERNATE_URI]}
    if scheme:
        properties = {**_drop_storage(item["properties"]), "storage:schemes": {SCHEME_NAME: scheme}}
        extended |= {"properties": properties, "stac_extensions": [*extended["stac_extensions"], STORAGE_URI]}
    return extended


def build_scheme(place: BucketPlace) -> Fields | None:
    """Return what is known of the bucket as an entry of ``storage:schemes``.

    Return None if its endpoint must not be published: it holds a user or a query, or it is on this machine or in a
    private network.
    """
    known: Fields = {"bucket": place.bucket}
    if place.region:
        known["region"] = place.region
    if place.requester_pays:
        known["requester_pays"] = True
    host = urlsplit(place.endpoint).hostname or ""
    if host.endswith(".amazonaws.com") and place.region and _AWS_BUCKET.fullmatch(place.bucket):
        return {"type": "aws-s3", "platform": _AWS_PLATFORM, **known}
    if not _is_public(host) or unsigned_href(place.endpoint) != place.endpoint:
        return None
    return {"type": "custom-s3", "platform": place.endpoint, **known}


def add_tiles(item: Item, tiler_url: str) -> Item:
    """Return ``item``, whose hrefs are absolute, with a link to its mask as map tiles.

    ``tiler_url`` is the tiler's URL with ``{z}``, ``{x}``, ``{y}``, which stay, and ``{url}`` in place of the mask's.
    """
    href = tiler_url.replace("{url}", quote(item["assets"][MASK_ASSET]["href"], safe=""))
    link = {"rel": TILES_REL, "href": href, "title": "Cloud and cloud-shadow mask as map tiles"}
    suffix = urlsplit(tiler_url).path.rpartition(".")[2].lower()
    if suffix in _TILE_TYPES:
        link["type"] = _TILE_TYPES[suffix]
    uris = [*item["stac_extensions"], WEB_MAP_LINKS_URI]
    return {**item, "links": [*item["links"], link], "stac_extensions": uris}


def _is_public(host: str) -> bool:
    """Return False for a host that, judged by its name or address, readers elsewhere cannot reach."""
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_PRIVATE_ENDS)


def _clean_asset(asset: Mapping[str, Any]) -> Fields:
    kept = _drop_storage(asset)
    alternates = kept.pop("alternate", None)
    if isinstance(alternates, dict):
        kept["alternate"] = {name: _drop_storage(each) for name, each in alternates.items()}
    return kept


def _drop_storage(fields: Mapping[str, Any]) -> Fields:
    return {name: value for name, value in fields.items() if not name.startswith("storage:")}
