"""Checking one published item against its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.errors import CloudmaskError
from flows.masking.statistics import measure_mask
from flows.ports import ObjectInfo, ObjectStore
from flows.publish.findings import Finding, Problem
from flows.publish.generations import read_predecessors, read_sensing_start
from flows.publish.item_rules import (
    OWN_ASSETS,
    find_contradictions,
    find_faults,
    find_mask_faults,
    resolve_href,
)
from flows.publish.leaf import LeafFolder
from flows.publish.reading import CouldNotRead, find_absence, looking_at, read
from flows.stac.asset_fields import SHA256_MULTIHASH
from flows.stac.coverage import Coverage, read_coverage
from flows.stac.encoding import decode_document
from flows.stac.layout import CATALOG_KEY, COLLECTION_KEY, MASK_ASSET, ItemKeys
from flows.stac.links import find_public_url
from stac_ext.cloudmask import FINGERPRINT_PROP

#: The pixels, uint8 (height, width), of a mask's file and its item's id.
DecodeMask = Callable[[bytes, str], NDArray[np.uint8]]

_UNREADABLE = (CloudmaskError, LookupError, TypeError, ValueError, AttributeError)
_ABOUT_SOURCE = frozenset({Problem.DOUBTFUL_SOURCE})


@dataclass(slots=True)
class ItemCheck:
    """What one item is: its findings, its files' keys, the older items it links, what it covers.

    ``digest`` is the SHA-256 of its document as it was read, ``start`` the sensing start of its datastrip.
    """

    keys: ItemKeys
    findings: list[Finding] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    predecessors: tuple[str, ...] = ()
    coverage: Coverage | None = None
    digest: str = ""
    fingerprint: str | None = None
    start: str | None = None

    @property
    def is_unread(self) -> bool:
        """Whether a part of it could not be looked at, so that nothing may be concluded of it."""
        return any(finding.problem is Problem.COULD_NOT_READ for finding in self.findings)

    @property
    def is_broken(self) -> bool:
        """Whether all of it was read, and only publishing the scene again can help."""
        return not self.is_unread and any(each.problem not in _ABOUT_SOURCE for each in self.findings)

    @property
    def is_sound(self) -> bool:
        """Whether all of it was read, and nothing of ours is wrong."""
        return not self.is_unread and not self.is_broken

    @property
    def reason(self) -> str:
        """Why it is broken."""
        return next(str(each) for each in self.findings if each.problem not in _ABOUT_SOURCE)


def check_item(
    store: ObjectStore, leaf: LeafFolder, item_id: str, decode_mask: DecodeMask | None = None
) -> ItemCheck:
    """Check the item's document, its links inside the store and its files, byte by byte.

    Its own ``self`` link says what is inside: an item that was published for another public URL is sound
    too. With ``decode_mask`` the mask's pixels are counted as well.
    """
    check = ItemCheck(ItemKeys(leaf.leaf, item_id))
    for finding in _find_all(store, leaf, check, decode_mask):
        check.findings.append(finding)
    return check


def _find_all(
    store: ObjectStore, leaf: LeafFolder, check: ItemCheck, decode_mask: DecodeMask | None
) -> Iterator[Finding]:
    key = check.keys.item
    try:
        body = _read_listed(store, key, leaf.folders[check.keys.item_id].item)
    except CouldNotRead as error:
        yield error.finding
        return
    check.digest = sha256(body).hexdigest()
    try:
        item = decode_document(body, key)
        faults = list(find_faults(item, check.keys))
        for fault in faults:
            yield Finding(Problem.BROKEN_ITEM, key, fault)
        check.coverage = read_coverage(item)
        check.predecessors = tuple(read_predecessors(item))
        check.start = read_sensing_start(item)
        check.fingerprint = item["properties"].get(FINGERPRINT_PROP)
        if not faults:
            for text in find_contradictions(item, check.keys):
                yield Finding(Problem.DOUBTFUL_SOURCE, key, text)
        yield from _check_links(store, leaf, item, check.keys)
        yield from _check_assets(store, leaf, item, check, None if faults else decode_mask)
    except _UNREADABLE as error:
        detail = " ".join(str(error).split())
        yield Finding(Problem.BROKEN_ITEM, key, f"is not an item of this catalog: {detail:.200}")


def _read_listed(store: ObjectStore, key: str, info: ObjectInfo | None) -> bytes:
    """Read an object that a listing shows.

    Raises:
        CouldNotRead: the read failed, or it and the listing contradict each other.
    """
    stored = read(store, key)
    if stored is None:
        raise CouldNotRead(key, "is listed, and the store says that it is not there")
    if info is not None and len(stored.body) != info.size:
        raise CouldNotRead(key, f"{len(stored.body)} bytes came, its listing says {info.size}")
    return stored.body


def _check_links(
    store: ObjectStore, leaf: LeafFolder, item: dict[str, Any], keys: ItemKeys
) -> Iterator[Finding]:
    public_url = find_public_url(item, keys.item)
    known = {CATALOG_KEY, COLLECTION_KEY, leaf.leaf.catalog, keys.item}
    for link in item["links"]:
        key = resolve_href(public_url, link["href"], keys.item)
        if key is None or key in known:
            continue
        if not key.startswith(leaf.leaf.prefix):
            yield from _check_source_file(store, key)
            continue
        folder = leaf.folders.get(key.split("/")[-2])
        if folder is None or folder.item is None or folder.item.key != key:
            doubt = find_absence(store, key)
            yield doubt or Finding(Problem.DANGLING_LINK, keys.item, f"links {key}, which is not there")


def _check_assets(
    store: ObjectStore,
    leaf: LeafFolder,
    item: dict[str, Any],
    check: ItemCheck,
    decode_mask: DecodeMask | None,
) -> Iterator[Finding]:
    public_url = find_public_url(item, check.keys.item)
    for name, asset in item["assets"].items():
        key = resolve_href(public_url, asset["href"], check.keys.item)
        if key is None:
            continue
        if not key.startswith(check.keys.prefix):
            if name not in OWN_ASSETS:
                yield from _check_source_file(store, key)
            continue
        check.files.add(key)
        info = leaf.folders[check.keys.item_id].objects.get(key.removeprefix(check.keys.prefix))
        try:
            yield from _check_file(store, key, info, asset)
            if name == MASK_ASSET and decode_mask is not None and info is not None:
                yield from _check_pixels(_read_listed(store, key, info), item, check.keys, decode_mask)
        except CouldNotRead as error:
            yield error.finding


def _check_file(
    store: ObjectStore, key: str, info: ObjectInfo | None, asset: dict[str, Any]
) -> Iterator[Finding]:
    if info is None:
        doubt = find_absence(store, key)
        yield doubt or Finding(Problem.MISSING_FILE, key, "its item links it and it is not there")
        return
    size, checksum = asset.get("file:size", info.size), asset.get("file:checksum", "")
    if info.size != size:
        yield Finding(Problem.WRONG_FILE, key, f"has {info.size} bytes, its item says {size}")
    elif checksum.startswith(SHA256_MULTIHASH):
        body = _read_listed(store, key, info)
        if sha256(body).hexdigest() != checksum.removeprefix(SHA256_MULTIHASH):
            yield Finding(Problem.WRONG_FILE, key, "has another checksum than its item says")


def _check_pixels(
    body: bytes, item: dict[str, Any], keys: ItemKeys, decode_mask: DecodeMask
) -> Iterator[Finding]:
    """A mask that is as its checksum says and cannot be decoded may be this machine's fault."""
    with looking_at(keys.item):
        pixels = decode_mask(body, keys.item_id)
    for fault in find_mask_faults(item, pixels.shape, measure_mask(pixels)):
        yield Finding(Problem.BROKEN_ITEM, keys.item, fault)


def _check_source_file(store: ObjectStore, key: str) -> Iterator[Finding]:
    """What the item has from its source may lie in the store too, and is not ours."""
    try:
        with looking_at(key):
            is_there = store.find_object(key) is not None
    except CouldNotRead as error:
        yield error.finding
        return
    if not is_there:
        yield Finding(Problem.DOUBTFUL_SOURCE, key, "an item links it as its source's, and it is not there")
