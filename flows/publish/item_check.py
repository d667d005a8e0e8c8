"""Checking one published item against its folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from flows.errors import CloudmaskError, StoreRefused
from flows.ports import ObjectInfo, ObjectStore
from flows.publish.findings import Finding, Problem
from flows.publish.generations import is_current, read_predecessors, read_sensing_start
from flows.publish.leaf import LeafFolder
from flows.stac.asset_fields import SHA256_MULTIHASH
from flows.stac.coverage import Coverage, read_coverage
from flows.stac.encoding import decode_document
from flows.stac.layout import CATALOG_KEY, COLLECTION_KEY, MASK_ASSET, ItemKeys
from flows.stac.links import find_public_url


@dataclass(slots=True)
class ItemCheck:
    """What one item is: its findings, its files' keys, the older items it links, what it covers.

    ``start`` is when its datastrip begins; ``is_current`` whether it was published and not withdrawn since.
    """

    keys: ItemKeys
    findings: list[Finding] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    predecessors: tuple[str, ...] = ()
    coverage: Coverage | None = None
    start: str | None = None
    is_current: bool = False

    @property
    def is_broken(self) -> bool:
        """Whether only publishing the scene anew can help."""
        return bool(self.findings)


def check_item(store: ObjectStore, leaf: LeafFolder, item_id: str) -> ItemCheck:
    """The item's document, its links inside the store and its files, byte by byte.

    Its own ``self`` link says what is inside: an item that was published for another public URL is whole too.
    """
    keys = ItemKeys(leaf.leaf, item_id)
    check = ItemCheck(keys)
    stored = store.read_object(keys.item)
    if stored is None:
        check.findings.append(Finding(Problem.BROKEN_ITEM, keys.item, "was listed and is gone"))
        return check
    try:
        item = decode_document(stored.body, keys.item)
        if item["id"] != item_id:
            raise ValueError(f"its id is {item['id']!r:.60}")
        check.coverage = read_coverage(item)
        check.predecessors = tuple(read_predecessors(item))
        check.start, check.is_current = read_sensing_start(item), is_current(item)
        check.findings.extend(_check_links(store, leaf, item, keys))
        check.findings.extend(_check_assets(store, leaf, item, check))
    except (CloudmaskError, LookupError, TypeError, ValueError, AttributeError) as error:
        detail = " ".join(str(error).split())
        check.findings.append(Finding(Problem.BROKEN_ITEM, keys.item, f"cannot be read: {detail:.200}"))
    return check


def resolve_href(public_url: str | None, href: str, from_key: str) -> str | None:
    """The key that ``href`` names in the document at ``from_key``; None outside the store."""
    if public_url is not None and href.startswith(f"{public_url}/"):
        return href.removeprefix(f"{public_url}/")
    if "://" in href or href.startswith("/"):
        return None
    key = posixpath.normpath(posixpath.join(posixpath.dirname(from_key), href))
    return None if key.startswith("../") else key


def _check_links(
    store: ObjectStore, leaf: LeafFolder, item: dict[str, Any], keys: ItemKeys
) -> Iterator[Finding]:
    public_url = find_public_url(item, keys.item)
    known = {CATALOG_KEY, COLLECTION_KEY, leaf.leaf.catalog, keys.item}
    for link in item["links"]:
        key = resolve_href(public_url, link["href"], keys.item)
        if key is None or key in known:
            continue
        if key.startswith(leaf.leaf.prefix):
            folder = leaf.folders.get(key.split("/")[-2])
            is_there = folder is not None and folder.item is not None and folder.item.key == key
        else:
            is_there = _find(store, key) is not None
        if not is_there:
            yield Finding(Problem.DANGLING_LINK, keys.item, f"links {key}, which is not there")


def _check_assets(
    store: ObjectStore, leaf: LeafFolder, item: dict[str, Any], check: ItemCheck
) -> Iterator[Finding]:
    public_url = find_public_url(item, check.keys.item)
    objects = leaf.folders[check.keys.item_id].objects
    if MASK_ASSET not in item["assets"]:
        yield Finding(Problem.BROKEN_ITEM, check.keys.item, f"has no asset {MASK_ASSET}")
    for asset in item["assets"].values():
        key = resolve_href(public_url, asset["href"], check.keys.item)
        if key is None:
            continue
        if key.startswith(check.keys.prefix):
            check.files.add(key)
            info = objects.get(key.removeprefix(check.keys.prefix))
        else:
            info = _find(store, key)
        yield from _check_file(store, key, info, asset)


def _check_file(
    store: ObjectStore, key: str, info: ObjectInfo | None, asset: dict[str, Any]
) -> Iterator[Finding]:
    if info is None:
        yield Finding(Problem.MISSING_FILE, key, "its item links it and it is not there")
        return
    size, checksum = asset.get("file:size", info.size), asset.get("file:checksum", "")
    if info.size != size:
        yield Finding(Problem.WRONG_FILE, key, f"has {info.size} bytes, its item says {size}")
    elif checksum.startswith(SHA256_MULTIHASH):
        stored = store.read_object(key)
        if stored is None or sha256(stored.body).hexdigest() != checksum.removeprefix(SHA256_MULTIHASH):
            yield Finding(Problem.WRONG_FILE, key, "has another checksum than its item says")


def _find(store: ObjectStore, key: str) -> ObjectInfo | None:
    try:
        return store.find_object(key)
    except StoreRefused:
        return None
