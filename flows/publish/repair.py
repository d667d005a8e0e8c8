"""Mending what a check found."""

from __future__ import annotations

import logging
from datetime import datetime

from flows.errors import CloudmaskError
from flows.ports import ObjectStore
from flows.publish.catalogs import leaf_steps
from flows.publish.generations import list_generations, predecessor_steps, read_predecessors, settle_steps
from flows.publish.leaf import group_leaf
from flows.publish.leaf_check import LeafCheck
from flows.publish.scene_states import Failure, record_failed
from flows.publish.steps import run_steps
from flows.publish.withdrawal import write_tombstone
from flows.stac.encoding import decode_document
from flows.stac.layout import ItemKeys, LeafKeys, pending_prefix
from flows.stac.links import CatalogContext

logger = logging.getLogger(__name__)


def repair_leaf(store: ObjectStore, context: CatalogContext, check: LeafCheck, now: datetime) -> bool:
    """Unlink and remove what is broken or over, link what is not linked, drop what is of no use.

    Returns whether the leaf has a catalog then: one without items never gets its first. A broken
    item is noted as failed, so that ``retry`` or the next run publishes it anew.
    """
    leaf = check.folder.leaf
    for item_id, reason in check.broken.items():
        write_tombstone(store, ItemKeys(leaf, item_id), reason, now)
    for item_id in check.unlinked:
        run_steps(settle_steps(store, context, ItemKeys(leaf, item_id)))
    has_catalog = check.has_catalog or bool(check.folder.linked_ids)
    if has_catalog:
        run_steps(leaf_steps(store, context, leaf))
    for item_id in check.withdrawn:
        _remove(store, context, ItemKeys(leaf, item_id))
    for item_id, reason in check.broken.items():
        keys = ItemKeys(leaf, item_id)
        _remove(store, context, keys)
        store.delete_object(keys.tombstone)
        record_failed(store, item_id, Failure("BrokenItem", reason, retryable=True), now)
    for key in check.orphans:
        if _is_wanted_again(store, leaf, key):
            continue
        logger.info("removing %s: no item links it", key)
        store.delete_object(key)
    return has_catalog


def _is_wanted_again(store: ObjectStore, leaf: LeafKeys, key: str) -> bool:
    """Whether a writer puts that file again, or did while the listed leaf was read."""
    item_id, _, name = key.removeprefix(leaf.prefix).partition("/")
    if any(True for _ in store.list_objects(pending_prefix(item_id))):
        return True
    item = store.read_object(ItemKeys(leaf, item_id).item)
    return item is not None and name.encode() in item.body


def _remove(store: ObjectStore, context: CatalogContext, keys: ItemKeys) -> None:
    """Remove an item that no catalog links: first newer generations' links to it, then it, then its files."""
    logger.info("removing %s", keys.item)
    older = next(iter(_find_predecessors(store, keys)), None)
    for sibling in list_generations(store, keys):
        other = ItemKeys(keys.leaf, sibling)
        if sibling != keys.item_id and keys.item_id in _find_predecessors(store, other):
            run_steps(predecessor_steps(store, context, other, lambda _: older))
    store.delete_object(keys.item)
    folder = group_leaf(keys.leaf, list(store.list_objects(keys.prefix))).folders.get(keys.item_id)
    for info in folder.objects.values() if folder else ():
        if info.key != keys.tombstone:
            store.delete_object(info.key)


def _find_predecessors(store: ObjectStore, keys: ItemKeys) -> list[str]:
    stored = store.read_object(keys.item)
    try:
        return [] if stored is None else list(read_predecessors(decode_document(stored.body, keys.item)))
    except (CloudmaskError, TypeError, AttributeError):
        return []
