"""Optional hrefs of a published item: where its files are in the bucket, and its mask as map tiles.

Both are absolute: a copy of the catalog elsewhere still leads to the first bucket, and its tiles to the first public
URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

from pc_cloudmask.catalog.fields import EXTENSIONS_URI, Fields
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import BucketPlace
from pc_cloudmask.text import unsigned_href

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
