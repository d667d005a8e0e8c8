"""Small publications of the real shape, and a reader that walks the catalog as anyone does."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from hashlib import sha256
from itertools import count, takewhile
from typing import Any

import orjson

from pc_cloudmask.catalog.fields import GEOJSON_MEDIA_TYPE, AssetFile, CatalogContext
from pc_cloudmask.catalog.layout import (
    CATALOG_KEY,
    CHANGES_PREFIX,
    COLLECTION_ID,
    COLLECTION_KEY,
    ItemKeys,
    changes_key,
    item_keys,
)
from pc_cloudmask.catalog.publisher import Publication
from pc_cloudmask.scene.geometry import build_tile_box
from pc_cloudmask.storage.store import ObjectStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONTEXT = CatalogContext()
#: A version by a lesser method than that of all others, in whose place it must never come.
LESSER = "lesser"
PRIVATE = ("_pending/", "_waiting/", "_failed/", "_provisional/", "_probe/")


def product_id(number: int, tile: str = "22KFV", made: str = "20201008T100849") -> str:
    """A product's id; ``number`` counts the days since the start of 2018."""
    day = datetime(2018, 1, 1, 13, 32, 19, tzinfo=UTC) + timedelta(days=number)
    return f"S2B_MSIL2A_{day:%Y%m%dT%H%M%S}_R081_T{tile}_{made}"


def keys_of(item_id: str) -> ItemKeys:
    """The keys of a product, from its id alone."""
    _, _, sensed, _, tile, _ = item_id.split("_")
    return item_keys(item_id, tile[1:], int(sensed[:4]))


@cache
def find_box(tile: str) -> tuple[float, float, float, float]:
    """West, south, east, north of the tile; of one whose letters are of no square of its zone, any."""
    try:
        return build_tile_box(tile)
    except ValueError:
        return (-50.0, -22.0, -49.0, -21.0)


def build_publication(
    item_id: str, version: str = "1", *, strip: str = "20180101T000000", context: CatalogContext = CONTEXT
) -> Publication:
    """Two files and an item; another ``version`` has other pixels, and ``LESSER`` is by another method."""
    method, better = ("csmask", ("s2cloudless",)) if version == LESSER else ("s2cloudless", ())
    keys = keys_of(item_id)
    mask = f"mask {version} of {item_id}".encode()
    preview = f"preview {version} of {item_id}".encode()
    files = (
        AssetFile(keys.mask(digest := sha256(mask).hexdigest()), mask, "image/tiff", digest),
        AssetFile(keys.preview(digest := sha256(preview).hexdigest()), preview, "image/png", digest),
    )
    sensed = datetime.strptime(item_id.split("_")[2], "%Y%m%dT%H%M%S")
    cloud = len(item_id) % 7 + sensed.day
    w, s, e, n = find_box(keys.year_keys.tile)
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": item_id,
        "geometry": {"type": "Polygon", "coordinates": [[[w, s], [e, s], [e, n], [w, n], [w, s]]]},
        "bbox": [w, s, e, n],
        "properties": {
            "datetime": f"{sensed:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "Sentinel-2B",
            "s2:datastrip_id": f"S2B_OPER_MSI_L2A_DS_ESRI_20201008T100850_S{strip}_N02.12",
            "cloudmask:method": method,
            "cloudmask:cloud_percentage": float(cloud),
            "cloudmask:shadow_percentage": 0.0,
            "cloudmask:clear_percentage": float(100 - cloud),
            "cloudmask:nodata_percentage": 0.0,
            "cloudmask:fingerprint": version,
        },
        "collection": COLLECTION_ID,
        "links": [
            *context.self_links(keys.item, "Item", GEOJSON_MEDIA_TYPE),
            context.link("root", CATALOG_KEY, keys.item, "Catalog"),
            context.link("parent", keys.year_keys.catalog, keys.item, "Year"),
            context.link("collection", COLLECTION_KEY, keys.item, "Cloud masks"),
            {"rel": "derived_from", "href": f"https://example.com/{item_id}", "type": GEOJSON_MEDIA_TYPE},
        ],
        "assets": {
            name: {
                "href": context.href(file.key, keys.item),
                "file:size": len(file.body),
                "file:checksum": f"1220{sha256(file.body).hexdigest()}",
            }
            for name, file in zip(("cloudmask", "cloudmask-preview"), files, strict=True)
        }
        | {"visual": {"href": f"https://example.com/{item_id}/visual.tif"}},
    }
    return Publication(keys, item, files, better)


@dataclass
class Walk:
    """What a reader met: documents by key, items by id, and what was linked and not there."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)


def walk_catalog(store: ObjectStore) -> Walk:
    """Follow every link inside the store from the root on, reading it as it is at that moment."""
    walk = Walk()
    if store.find_object(CATALOG_KEY) is not None:
        _visit(store, walk, CATALOG_KEY, "the reader")
    return walk


@dataclass
class BestSeen:
    """Sees to it that no item is met with a lesser mask once it was met with a better one."""

    better: set[str] = field(default_factory=set)

    def find_worse(self, walk: Walk) -> list[str]:
        """Ids of the items that became worse since earlier walks."""
        lesser = {
            each for each, item in walk.items.items() if item["properties"]["cloudmask:method"] == "csmask"
        }
        worse = sorted(lesser & self.better)
        self.better |= walk.items.keys() - lesser
        return worse


def _visit(store: ObjectStore, walk: Walk, key: str, linked_from: str) -> None:
    if key in walk.documents:
        walk.repeated.append(key)
        return
    stored = store.read_object(key)
    if stored is None:
        walk.dangling.append(f"{linked_from} -> {key}")
        return
    document = orjson.loads(stored.body)
    walk.documents[key] = document
    if document["type"] == "Feature":
        walk.items[document["id"]] = document
        for asset in document["assets"].values():
            target = _resolve(key, asset["href"])
            if target is not None and not _is_whole(store, target, asset):
                walk.dangling.append(f"{key} -> {target}")
    for target in _links(document, key):
        _visit(store, walk, target, key)


def _links(document: dict[str, Any], key: str) -> Iterator[str]:
    for link in document["links"]:
        if link["rel"] in {"child", "item", "predecessor-version"}:
            target = _resolve(key, link["href"])
            assert target is not None
            yield target


def _is_whole(store: ObjectStore, key: str, asset: dict[str, Any]) -> bool:
    stored = store.read_object(key)
    return stored is not None and asset["file:checksum"] == f"1220{sha256(stored.body).hexdigest()}"


@lru_cache(100_000)
def _resolve(key: str, href: str) -> str | None:
    """The key that ``href`` names; None for one outside of the store."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(key), href))
    return None if "://" in href or target.startswith("..") else target


def public_bytes(store: ObjectStore) -> dict[str, bytes]:
    """Every public object by key, but for the change feed: that tells in which order it came."""
    found = {}
    for info in store.list_objects(""):
        if not info.key.startswith((*PRIVATE, CHANGES_PREFIX)):
            stored = store.read_object(info.key)
            assert stored is not None
            found[info.key] = stored.body
    return found


def read_feed(store: ObjectStore, days: int = 3) -> list[dict[str, Any]]:
    """Every event of the change feed from the day before ``NOW`` on, in the order of the feed, without a listing."""
    bodies = []
    for number in range(-1, days):
        day = NOW.date() + timedelta(days=number)
        parts = map(store.read_object, (changes_key(day, part) for part in count()))
        bodies += [stored.body for stored in takewhile(lambda stored: stored is not None, parts) if stored]
    return [_parse(line) for body in bodies for line in body.splitlines()]


@lru_cache(10_000)
def _parse(line: bytes) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line)
    return event


def fold_feed(events: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The checksum of the mask of each item that the feed says is there, by id."""
    there: dict[str, str] = {}
    for event in events:
        if event["type"].endswith(".withdrawn"):
            there.pop(event["subject"], None)
        else:
            there[event["subject"]] = event["data"]["mask_checksum"]
    return there


def find_checksums(walk: Walk) -> dict[str, str]:
    """The checksum of the mask of each item that a reader met."""
    return {each: item["assets"]["cloudmask"]["file:checksum"] for each, item in walk.items.items()}


def list_markers(store: ObjectStore) -> list[str]:
    """Keys of all markers of publications under way."""
    return [info.key for info in store.list_objects("_pending/")]
