"""Repair what a check found.

A broken item is not deleted. A withdrawn marker takes it out of the catalog, and its document and files stay for a
grace period, as for an item that its source withdrew. The fingerprint is moved from the document into the marker, so
that ``ingest`` publishes the scene again, and a later check can restore the item if it turns out to be sound. A repair
may die between any two steps: the item is then found broken, or withdrawn, again. Whatever a repair takes out, restores
or links has a pending marker until the change feed records it.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from hashlib import sha256
from itertools import chain

from pc_cloudmask.catalog.check_catalogs import BrokenItem, YearCheck
from pc_cloudmask.catalog.feed import Change, Feed
from pc_cloudmask.catalog.fields import (
    GEOJSON_MEDIA_TYPE,
    CatalogContext,
    decode_document,
    encode_document,
    read_document,
)
from pc_cloudmask.catalog.layout import ItemKeys, pending_prefix
from pc_cloudmask.catalog.parents import tell_stages, year_steps
from pc_cloudmask.catalog.states import (
    Failure,
    StateKind,
    build_marker,
    find_state,
    record_failed,
    run_steps,
    swap_steps,
    write_marker,
)
from pc_cloudmask.catalog.versions import (
    change_steps,
    digest_item,
    is_current,
    link_steps,
    list_versions,
    mark_withdrawal,
    parse_item,
    read_predecessors,
    read_scene_prefix,
    settle_steps,
    write_withdrawn_marker,
)
from pc_cloudmask.catalog.walk import group_year, holds_object
from pc_cloudmask.source.fields import Item, find_property
from pc_cloudmask.storage.store import ObjectStore, StoredObject
from stac_ext.cloudmask import FINGERPRINT_PROP

#: Broken items that one repair takes out of the catalog unless told to take out all; the same number as one run may
#: withdraw. More at once are more likely a fault of the store.
REMOVAL_LIMIT = 20
_ERROR_CLASS = "BrokenItem"
logger = logging.getLogger(__name__)


class Removals:
    """How many broken items a repair may still take out; None means all. Safe to share between threads."""

    def __init__(self, limit: int | None = REMOVAL_LIMIT) -> None:
        self._limit = limit
        self._refused: set[ItemKeys] = set()
        self._lock = threading.Lock()
        self.taken = 0

    @property
    def held_back(self) -> int:
        """Number of broken items that were left in the catalog."""
        return len(self._refused)

    def take(self, keys: ItemKeys) -> bool:
        """Return True if this item may be taken out."""
        with self._lock:
            if self._limit is not None and self.taken >= self._limit:
                self._refused.add(keys)
                return False
            self.taken += 1
            return True


def repair_year(
    store: ObjectStore, context: CatalogContext, check: YearCheck, now: datetime, removals: Removals
) -> bool:
    """Take out broken items, restore and link sound ones, and remove what has expired or is of no use.

    Return whether the year then has a catalog: a year without items is not given one. A broken item is recorded as
    failed, so that ``retry`` or the next run publishes it again. What could not be read is left alone, and so is a year
    whose catalog or links are in doubt. If this raises an error, it is safe to try again.
    """
    if check.is_in_doubt:
        return check.totals.has_catalog
    broken = [(check.keys(item_id), item) for item_id, item in check.broken.items()]
    taken = [(keys, item) for keys, item in broken if removals.take(keys)]
    changes: list[Change] = []
    for keys, item in taken:
        # This comes first, because the next check does not report a withdrawn item that newer versions still link.
        _unlink_version(store, context, check, keys)
        changes += _take_out(store, keys, item, now)
        run_steps(settle_steps(store, context, keys))
    changes += _mend_marks(store, context, check, now)
    has_catalog = check.totals.has_catalog or bool(check.folder.linked_ids)
    if has_catalog:
        run_steps(year_steps(store, context, check.folder.year_keys))
    for steps in chain.from_iterable(tell_stages(Feed(store, context, now), changes)):
        run_steps(steps)
    for item_id in check.withdrawn:
        _remove(store, context, check, check.keys(item_id))
    for key in check.orphans:
        if not _is_wanted_again(store, check, key):
            logger.info("removing %s: no item links it", key)
            store.delete_object(key)
    return has_catalog


def _mend_marks(store: ObjectStore, context: CatalogContext, check: YearCheck, now: datetime) -> list[Change]:
    """Restore sound items and correct the marks of newer versions; return the changes that link items."""
    changes: list[Change] = []
    for item_id, fingerprint in check.restored.items():
        _restore(store, check.keys(item_id), fingerprint)
    for key in check.wrong_marks:
        store.delete_object(key)
    for item_id in check.dangling:
        run_steps(link_steps(store, context, check.keys(item_id)))
    for keys in map(check.keys, (*check.unlinked, *check.restored)):
        stored = store.read_object(keys.item)
        if stored is not None:
            changes.append(Change(keys, digest_item(stored)))
            write_marker(store, build_marker(keys, changes[-1].digest, now))
        run_steps(settle_steps(store, context, keys))
    return changes


def _take_out(store: ObjectStore, keys: ItemKeys, item: BrokenItem, now: datetime) -> list[Change]:
    """Put the withdrawn marker, then remove the fingerprint from exactly the document that was found broken.

    Return the changes to record once no catalog links it: none if another repair has done this already. Its marker
    keeps the fingerprint, which the document no longer has.
    """
    logger.info("taking %s out of the catalog: %s", keys.item_id, item.reason)
    record_failed(store, keys.item_id, Failure(_ERROR_CLASS, item.reason, retryable=True), now)
    document = read_document(store.read_object(keys.item))
    fingerprint = find_property(document or {}, FINGERPRINT_PROP)
    if fingerprint is None and holds_object(store, keys.withdrawn_marker):
        return []
    marker = mark_withdrawal(keys, item.reason, now, fingerprint)
    write_marker(store, marker)
    write_withdrawn_marker(store, keys, item.reason, now, fingerprint)

    def render(current: StoredObject | None) -> bytes | None:
        if current is None or sha256(current.body).hexdigest() != item.digest:
            return None  # removed or published again in the meantime
        found = decode_document(current.body, keys.item)
        found["properties"].pop(FINGERPRINT_PROP, None)
        return encode_document(found)

    if fingerprint is not None:
        run_steps(swap_steps(store, keys.item, render, GEOJSON_MEDIA_TYPE))
    return [Change(keys, marker.sha256)]


def _restore(store: ObjectStore, keys: ItemKeys, fingerprint: str | None) -> None:
    """Give a sound item its fingerprint back, so that settling restores it; forget its failure."""
    logger.info("restoring %s", keys.item_id)

    def restore(item: Item) -> Item:
        item["properties"].setdefault(FINGERPRINT_PROP, fingerprint)
        return item

    if fingerprint is not None:
        run_steps(change_steps(store, keys, restore))
    state = find_state(store, StateKind.FAILED, keys.item_id)
    if state is not None and state.error_class == _ERROR_CLASS:
        store.delete_object(state.key)


def _is_wanted_again(store: ObjectStore, check: YearCheck, key: str) -> bool:
    """Return True if a writer is putting that file again, or has done so since the year was listed.

    An item that no longer exists says nothing about its files.
    """
    item_id, _, name = key.removeprefix(check.folder.year_keys.prefix).partition("/")
    if _is_pending(store, item_id):
        return True
    item = store.read_object(check.keys(item_id).item)
    return item is None or name.encode() in item.body


def _is_pending(store: ObjectStore, item_id: str) -> bool:
    """Return True if a marker says that the item is being published or withdrawn."""
    return any(True for _ in store.list_objects(pending_prefix(item_id)))


def _unlink_version(store: ObjectStore, context: CatalogContext, check: YearCheck, keys: ItemKeys) -> None:
    """Make newer versions, found by the check's listing or another, link the version before this one instead."""
    scene = read_scene_prefix(keys.item_id)
    older = next(iter(_find_predecessors(store, keys)), None)
    siblings = {each for each in check.folder.folders if read_scene_prefix(each) == scene}
    again = list_versions(store, keys, siblings.intersection(check.folder.linked_ids))
    for sibling in sorted(siblings.union(again)):
        other = ItemKeys(keys.year_keys, sibling)
        if sibling != keys.item_id and keys.item_id in _find_predecessors(store, other):
            run_steps(link_steps(store, context, other, lambda _: older))


def _remove(store: ObjectStore, context: CatalogContext, check: YearCheck, keys: ItemKeys) -> None:
    """Remove an item that no catalog links: first newer versions' links to it, then the item, then its files."""
    if store.find_object(keys.withdrawn_marker) is None or _is_pending(store, keys.item_id):
        return  # published again in the meantime
    if is_current(read_document(store.read_object(keys.item))):
        return  # published again by a writer that died, or whose marker the listing lacks
    logger.info("removing %s", keys.item)
    _unlink_version(store, context, check, keys)
    store.delete_object(keys.item)
    again = group_year(keys.year_keys, store.list_objects(keys.prefix))
    folders = (each.folders[keys.item_id] for each in (check.folder, again) if keys.item_id in each.folders)
    for key in sorted({info.key for folder in folders for info in folder.objects.values()}):
        if key != keys.withdrawn_marker:
            store.delete_object(key)


def _find_predecessors(store: ObjectStore, keys: ItemKeys) -> list[str]:
    return list(read_predecessors(parse_item(store.read_object(keys.item)) or {}))
