"""Versions of one scene: products that the source made of the same datatake and tile.

The year catalog links the newest version, and each version links the one before it as ``predecessor-version``, so that
every version is reached exactly once. Two documents cannot change in one write, so what is linked depends on three
objects, written in this order:

    item              links the version before it, as shown by a listing made after the item was last read
    superseded mark   in the older item's folder: a newer item, which links it, takes its place in the catalog
    year catalog      rendered from a listing: what is published, and not superseded by anything published

Invariants, whichever writer dies at whatever point:

1. A mark is put only once the newer item links the older one, directly or through versions between them. So a catalog
   that leaves out the older one links one that leads to it.
2. A year catalog is never written while its listing shows two versions that no mark distinguishes: whoever is about to
   write it settles them first. So no item is ever linked by both its catalog and a newer item, nor by neither, not even
   while two writers that do not see each other publish two versions.
3. Each writer settles once it has put its own item: it lists the versions, makes each link the one before it, oldest
   first, and puts the marks. Of any two writers, the later one sees both items.
4. A link is swapped in against the item's ETag and chosen from a listing made after the item was read, so what another
   writer adds in the meantime is either seen or makes the swap fail.
5. Settling leaves correct objects unchanged, so anyone may do it for a writer that died: a marker says for which item
   (see ``publisher``). A withdrawn version counts as absent; whoever restores it first removes the marks that name it,
   and then settles like any writer.
6. A listing alone proves no absence: the store is asked directly for an item that a link or a mark names.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import groupby

from pc_cloudmask.catalog.fields import (
    GEOJSON_MEDIA_TYPE,
    JSON_MEDIA_TYPE,
    CatalogContext,
    decode_document,
    encode_document,
    read_document,
)
from pc_cloudmask.catalog.layout import ItemKeys, YearKeys, build_item_title
from pc_cloudmask.catalog.states import (
    Marker,
    Step,
    StepName,
    Steps,
    build_marker,
    run_steps,
    swap_steps,
    write_marker,
)
from pc_cloudmask.catalog.walk import (
    LISTINGS,
    ItemFolder,
    YearFolder,
    group_year,
    holds_object,
    list_year_surely,
    superseded_name,
)
from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import PRODUCT_FORM, is_item_id
from pc_cloudmask.source.fields import Item, find_property
from pc_cloudmask.storage.store import ObjectStore, StoredObject
from stac_ext.cloudmask import FINGERPRINT_PROP, METHOD_PROP

PREDECESSOR_REL = "predecessor-version"
#: The S part of a datastrip's id. A datatake split into two datastrips gives two scenes, not two versions.
_SENSING_START = re.compile(r"_S(\d{8}T\d{6})_")
#: Each attempt corrects one link, so only very many concurrent writers of one scene need more.
_SETTLE_ATTEMPTS = 100


def settle_steps(store: ObjectStore, context: CatalogContext, keys: ItemKeys) -> Steps:
    """Update the links and marks of all versions of the item's scene to match a listing.

    The item itself is restored if it was published again after it was withdrawn.
    """
    for _ in range(_SETTLE_ATTEMPTS):
        folders = list_versions(store, keys, {keys.item_id})
        yield Step(StepName.READ, keys.prefix)
        if _is_restored(store, keys, folders):
            yield from _restore_steps(store, keys, folders)
            continue
        if sum(folder.item is not None for folder in folders.values()) < 2:
            return
        published = [item_id for item_id, folder in folders.items() if folder.is_published]
        items = _read_items(store, keys.year_keys, published)
        yield Step(StepName.READ, keys.item)
        pairs = list(_pair_versions(read_starts(items)))
        wrong = [new for old, new in pairs if list(read_predecessors(items[new])) != ([old] if old else [])]
        if not wrong:
            yield from _mark_steps(store, keys.year_keys, folders, pairs)
            return
        # Only the oldest: which version the next one must link depends on it.
        yield from link_steps(store, context, ItemKeys(keys.year_keys, wrong[0]))
    raise StoreUnavailable(f"{keys.prefix}: its versions changed {_SETTLE_ATTEMPTS} times: try again")


def list_unsettled(store: ObjectStore, folder: YearFolder) -> list[ItemKeys]:
    """Return those items of a year whose scenes ``settle_steps`` must settle before its catalog is written."""
    unsettled = []
    for _, group in groupby(sorted(folder.linked_ids, key=read_scene_prefix), read_scene_prefix):
        ids = list(group)
        items = _read_items(store, folder.year_keys, ids) if len(ids) > 1 else {}
        newer = [newer for _, newer in find_unsettled(read_starts(items), ids)]
        unsettled += [ItemKeys(folder.year_keys, item_id) for item_id in newer[:1]]
    return unsettled


def find_unsettled(starts: Mapping[str, str | None], linked_ids: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of an older and a newer version of one scene that a listing says are both linked."""
    linked = {item_id: starts[item_id] for item_id in linked_ids if item_id in starts}
    return [(older, newer) for older, newer in _pair_versions(linked) if older]


def list_year_versions(store: ObjectStore, year_keys: YearKeys, expected: AbstractSet[str]) -> YearFolder:
    """Return the year as ``list_year_surely`` does, also sure of items that replace a withdrawn one.

    That is the version before it: while the newer one was in the catalog, only its link named the older one.
    """
    while True:
        folder = list_year_surely(store, year_keys, expected)
        items = _read_items(store, year_keys, sorted(folder.withdrawn_ids & expected))
        older = {each for item in items.values() for each in read_predecessors(item) if is_item_id(each)}
        if older <= expected:
            return folder
        expected = expected | older


def group_versions(starts: Mapping[str, str | None]) -> list[list[str]]:
    """Return the ids in ``starts`` grouped by scene, each group sorted by when the product was made.

    An item of which it is unknown when its datastrip begins is a scene of its own.
    """
    scenes = defaultdict[tuple[str, str], list[str]](list)
    for item_id in sorted(starts, key=order_version):
        scenes[read_scene_prefix(item_id), starts[item_id] or item_id].append(item_id)
    return list(scenes.values())


def read_starts(items: Mapping[str, Item]) -> dict[str, str | None]:
    """Return, by id, when the datastrip of each item begins."""
    return {item_id: read_sensing_start(item) for item_id, item in items.items()}


def read_scene_prefix(item_id: str) -> str:
    """Return what the ids of all products of one scene share: platform, datatake and tile, without ESA's baseline."""
    product = PRODUCT_FORM.fullmatch(item_id)
    return product["start"] + product["place"] if product else item_id


def order_version(item_id: str) -> tuple[str, str]:
    """Return the key that sorts the products of one scene by when they were made."""
    product = PRODUCT_FORM.fullmatch(item_id)
    return (product["made"] if product else "", item_id)


def list_versions(store: ObjectStore, keys: ItemKeys, expected: Iterable[str]) -> dict[str, ItemFolder]:
    """Return, by id, the folders of all items that share platform, datatake and tile with this one, itself included.

    A listing that lacks one of the ``expected`` items, or one that a mark names as a newer version, is trusted only if
    the store itself says that the item is not published.
    """
    scene = read_scene_prefix(keys.item_id)
    product = PRODUCT_FORM.fullmatch(keys.item_id)
    # Up to where ESA's ids have the baseline and others do not.
    prefix = keys.year_keys.prefix + product["start"] if product else keys.prefix
    for _ in range(LISTINGS):
        year = group_year(keys.year_keys, store.list_objects(prefix))
        named = {each for folder in year.folders.values() for each in folder.successors}
        siblings = {each for each in named if is_item_id(each) and read_scene_prefix(each) == scene}
        lacking = [each for each in sorted(siblings.union(expected)) if not year.holds(each)]
        if not any(_is_published(store, ItemKeys(keys.year_keys, each)) for each in lacking):
            return {each: found for each, found in year.folders.items() if read_scene_prefix(each) == scene}
    raise StoreUnavailable(
        f"{prefix}: the listing of {store.url} lacks versions that are there: try again later"
    )


def link_steps(
    store: ObjectStore,
    context: CatalogContext,
    keys: ItemKeys,
    choose: Callable[[Item], str | None] | None = None,
) -> Steps:
    """Make the published item link the version before it, or none: what ``choose`` returns, or ``find_older``."""
    choose = choose or partial(find_older, store, keys)
    return change_steps(store, keys, lambda item: set_predecessor(item, context, keys, choose(item)))


def change_steps(store: ObjectStore, keys: ItemKeys, change: Callable[[Item], Item]) -> Steps:
    """Replace the item in the store, which must exist, with the result of ``change``."""

    def render(current: StoredObject | None) -> bytes:
        if current is None:
            raise StoreUnavailable(f"{keys.item} was removed while it was changed: try again")
        return encode_document(change(decode_document(current.body, keys.item)))

    return swap_steps(store, keys.item, render, GEOJSON_MEDIA_TYPE)


def set_predecessor(item: Item, context: CatalogContext, keys: ItemKeys, predecessor: str | None) -> Item:
    """Return the item with a link to ``predecessor`` as its only version before it, or with no such link."""
    item = drop_predecessor(item)
    if predecessor is not None:
        target = ItemKeys(keys.year_keys, predecessor).item
        title = build_item_title(predecessor)
        item["links"].append(context.link(PREDECESSOR_REL, target, keys.item, title, GEOJSON_MEDIA_TYPE))
    return item


def drop_predecessor(item: Item) -> Item:
    """Return the item without its link to a previous version, which every writer of the scene may change."""
    links = [link for link in item.get("links", ()) if link.get("rel") != PREDECESSOR_REL]
    return {**item, "links": links}


def read_predecessors(item: Item) -> Iterable[str]:
    """Yield the ids of the items that ``item`` links as previous versions."""
    for link in item.get("links", ()):
        if link.get("rel") == PREDECESSOR_REL:
            yield str(link.get("href", "")).rpartition("/")[2].removesuffix(".json")


def read_sensing_start(item: Item) -> str | None:
    """Return when the item's datastrip begins; None if the item does not say so."""
    datastrip = find_property(item, "s2:datastrip_id")
    match = _SENSING_START.search(datastrip) if isinstance(datastrip, str) else None
    return match[1] if match else None


def parse_item(stored: StoredObject | None) -> Item | None:
    """Return the item; None if it is missing or broken."""
    item = read_document(stored)
    links = None if item is None else item.get("links", [])
    return item if isinstance(links, list) and all(isinstance(link, dict) for link in links) else None


def digest_item(stored: StoredObject) -> str:
    """Return the SHA-256, in hex, of an item without its link to an older version, which others may change."""
    item = parse_item(stored)
    return sha256(stored.body if item is None else encode_document(drop_predecessor(item))).hexdigest()


def is_current(item: Item | None) -> bool:
    """Return whether the item is published and has not been withdrawn since: withdrawing removes its fingerprint."""
    properties = None if item is None else item.get("properties")
    return isinstance(properties, dict) and FINGERPRINT_PROP in properties


def read_method(item: Item | None) -> str | None:
    """Return the method that made the item's mask; None if the item does not say."""
    method = find_property(item, METHOD_PROP) if item else None
    return method if isinstance(method, str) else None


def _pair_versions(starts: Mapping[str, str | None]) -> Iterator[tuple[str | None, str]]:
    """Yield each version, oldest first within its scene, after the one before it, or None."""
    for versions in group_versions(starts):
        yield from zip((None, *versions[:-1]), versions, strict=True)


def _mark_steps(
    store: ObjectStore,
    year_keys: YearKeys,
    folders: Mapping[str, ItemFolder],
    pairs: Iterable[tuple[str | None, str]],
) -> Steps:
    """Mark each older version that no published one supersedes yet; the newer one already links it."""
    for older, newer in pairs:
        if older and not any(
            folders[each].is_published for each in folders[older].successors if each in folders
        ):
            key = ItemKeys(year_keys, older).prefix + superseded_name(newer)
            mark = json.dumps({"id": older, "superseded_by": newer})
            store.write_object(key, mark.encode(), JSON_MEDIA_TYPE)
            yield Step(StepName.SUPERSEDE, key)


def _is_restored(store: ObjectStore, keys: ItemKeys, folders: Mapping[str, ItemFolder]) -> bool:
    """Return True if the item was published again but still has its withdrawn marker."""
    own = folders.get(keys.item_id)
    return own is not None and own.is_withdrawn and is_current(read_document(store.read_object(keys.item)))


def _restore_steps(store: ObjectStore, keys: ItemKeys, folders: Mapping[str, ItemFolder]) -> Steps:
    """Remove the withdrawn marker of an item that was published again, after the marks that name it.

    In the other order, older versions would give way at once to an item that may no longer link them. Publishing and
    withdrawing both check after putting their own object, so at least one of them sees both.
    """
    for item_id, folder in folders.items():
        if keys.item_id in folder.successors:
            key = ItemKeys(keys.year_keys, item_id).prefix + superseded_name(keys.item_id)
            store.delete_object(key)
            yield Step(StepName.RESTORE, key)
    store.delete_object(keys.withdrawn_marker)
    yield Step(StepName.RESTORE, keys.withdrawn_marker)


def find_older(store: ObjectStore, keys: ItemKeys, item: Item, stored: Item | None = None) -> str | None:
    """Return the id of the version before ``item`` according to a listing, or None.

    The store holds ``stored``. A listing that lacks an existing version that it links raises ``StoreUnavailable``.
    """
    folders = list_versions(store, keys, read_predecessors(item if stored is None else stored))
    published = [each for each, folder in folders.items() if each != keys.item_id and folder.is_published]
    items = {**_read_items(store, keys.year_keys, published), keys.item_id: item}
    return next(older for older, newer in _pair_versions(read_starts(items)) if newer == keys.item_id)


def _is_published(store: ObjectStore, keys: ItemKeys) -> bool:
    return store.find_object(keys.withdrawn_marker) is None and holds_object(store, keys.item)


def _read_items(store: ObjectStore, year_keys: YearKeys, ids: Iterable[str]) -> dict[str, Item]:
    """Return the items that can be read, by id."""
    items = {item_id: parse_item(store.read_object(ItemKeys(year_keys, item_id).item)) for item_id in ids}
    return {item_id: item for item_id, item in items.items() if item is not None}


def read_withdrawn_marker(stored: StoredObject, keys: ItemKeys) -> tuple[datetime, str | None]:
    """Return when the item's withdrawn marker was put, and the fingerprint that it keeps of a broken item.

    Raises:
        CloudmaskError, LookupError, TypeError, ValueError: this program did not write it.
    """
    marker = decode_document(stored.body, stored.key)
    fingerprint = marker.get(FINGERPRINT_PROP)
    if marker["id"] != keys.item_id or not isinstance(fingerprint, str | None):
        raise ValueError("it is another item's, or keeps no text")
    return parse_instant(marker["withdrawn"]), fingerprint


def withdraw_steps(
    store: ObjectStore, context: CatalogContext, keys: ItemKeys, reason: str, now: datetime
) -> Steps:
    """Deprecate the item and put its withdrawn marker, after which no catalog that is written links it.

    The fingerprint is removed, so that the scene is published again if its source restores it. A writer that does so
    meanwhile and this one both settle after putting their own object, so at least one of them sees both. The pending
    marker stays until the year's catalog is written.
    """

    def deprecate(item: Item) -> Item:
        item["properties"]["deprecated"] = True
        item["properties"].pop(FINGERPRINT_PROP, None)
        return item

    if not holds_object(store, keys.item):
        return
    marker = mark_withdrawal(keys, reason, now)
    write_marker(store, marker)
    yield Step(StepName.MARK, marker.key)
    yield from change_steps(store, keys, deprecate)
    write_withdrawn_marker(store, keys, reason, now)
    yield Step(StepName.WITHDRAW, keys.withdrawn_marker)
    yield from settle_steps(store, context, keys)


def mark_withdrawal(keys: ItemKeys, reason: str, now: datetime, fingerprint: str | None = None) -> Marker:
    """Return the pending marker of a withdrawal that begins now; ``fingerprint`` is what its withdrawn marker keeps."""
    body = _encode_withdrawn_marker(keys, reason, now, fingerprint)
    return build_marker(keys, sha256(body).hexdigest(), now)


def write_withdrawn_marker(
    store: ObjectStore, keys: ItemKeys, reason: str, now: datetime, fingerprint: str | None = None
) -> None:
    """Record in the item's folder why no catalog links it any more, and its ``fingerprint``, if given."""
    body = _encode_withdrawn_marker(keys, reason, now, fingerprint)
    store.write_object(keys.withdrawn_marker, body, JSON_MEDIA_TYPE)


def _encode_withdrawn_marker(
    keys: ItemKeys, reason: str, now: datetime, fingerprint: str | None = None
) -> bytes:
    marker = {"id": keys.item_id, "reason": reason, "withdrawn": now.isoformat()}
    return json.dumps(marker | ({FINGERPRINT_PROP: fingerprint} if fingerprint is not None else {})).encode()


def withdraw_broken(
    store: ObjectStore, keys: ItemKeys, reason: str, digest: str, now: datetime
) -> str | None:
    """Put the withdrawn marker, then remove the fingerprint from the document, if its SHA-256 is still ``digest``.

    Return the digest of the pending marker; None if another repair has done this already. Its withdrawn marker keeps
    the fingerprint, which the document no longer has.
    """
    fingerprint = find_property(read_document(store.read_object(keys.item)) or {}, FINGERPRINT_PROP)
    if fingerprint is None and holds_object(store, keys.withdrawn_marker):
        return None
    marker = mark_withdrawal(keys, reason, now, fingerprint)
    write_marker(store, marker)
    write_withdrawn_marker(store, keys, reason, now, fingerprint)

    def render(current: StoredObject | None) -> bytes | None:
        if current is None or sha256(current.body).hexdigest() != digest:
            return None  # removed or published again in the meantime
        found = decode_document(current.body, keys.item)
        found["properties"].pop(FINGERPRINT_PROP, None)
        return encode_document(found)

    if fingerprint is not None:
        run_steps(swap_steps(store, keys.item, render, GEOJSON_MEDIA_TYPE))
    return marker.sha256


def unlink_steps(store: ObjectStore, context: CatalogContext, keys: ItemKeys, folder: YearFolder) -> Steps:
    """Make newer versions, found by ``folder`` or another listing, link the version before this one instead."""

    def find_predecessors(item_id: str) -> list[str]:
        item = _read_items(store, keys.year_keys, [item_id]).get(item_id, {})
        return list(read_predecessors(item))

    scene = read_scene_prefix(keys.item_id)
    older = next(iter(find_predecessors(keys.item_id)), None)
    siblings = {each for each in folder.folders if read_scene_prefix(each) == scene}
    again = list_versions(store, keys, siblings.intersection(folder.linked_ids))
    for sibling in sorted(siblings.union(again) - {keys.item_id}):
        if keys.item_id in find_predecessors(sibling):
            yield from link_steps(store, context, ItemKeys(keys.year_keys, sibling), lambda _: older)
