"""Taking back an item whose scene its source has taken back."""

from __future__ import annotations

import json
from datetime import datetime

from flows.errors import StoreUnavailable
from flows.ports import ObjectStore, StoredObject
from flows.publish.branches import read_document
from flows.publish.catalogs import leaf_steps
from flows.publish.steps import Step, StepName, Steps, swap_steps
from flows.stac.encoding import decode_document, encode_document
from flows.stac.layout import ItemKeys
from flows.stac.links import GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE, CatalogContext
from stac_ext.cloudmask import FINGERPRINT_PROP


def withdraw_steps(store: ObjectStore, keys: ItemKeys, reason: str, now: datetime) -> Steps:
    """Deprecate the item and put its tombstone, after which no catalog that is written links it.

    The fingerprint goes, so that the scene is published anew should its source bring it back.
    """

    def render(current: StoredObject | None) -> bytes:
        if current is None:
            raise StoreUnavailable(f"{keys.item} was removed while it was withdrawn: try again")
        item = decode_document(current.body, keys.item)
        item["properties"]["deprecated"] = True
        item["properties"].pop(FINGERPRINT_PROP, None)
        return encode_document(item)

    if store.find_object(keys.item) is None:
        return
    yield from swap_steps(store, keys.item, render, GEOJSON_MEDIA_TYPE)
    write_tombstone(store, keys, reason, now)
    yield Step(StepName.BURY, keys.tombstone)


def revive_steps(store: ObjectStore, keys: ItemKeys) -> Steps:
    """Remove the tombstone of an item that another writer published anew while it was withdrawn.

    Each of the two looks once its own is there, so one at least sees both: an item beside a tombstone would
    be taken for published, and no catalog would ever link it.
    """
    item = read_document(store.read_object(keys.item))
    if item is not None and FINGERPRINT_PROP in item["properties"]:
        store.delete_object(keys.tombstone)
        yield Step(StepName.REVIVE, keys.tombstone)


def relink_steps(store: ObjectStore, context: CatalogContext, keys: ItemKeys) -> Steps:
    """Link the withdrawn item, which its catalog links no longer, should it have been published anew."""
    for step in revive_steps(store, keys):
        yield step
        yield from leaf_steps(store, context, keys.leaf)


def write_tombstone(store: ObjectStore, keys: ItemKeys, reason: str, now: datetime) -> None:
    """Say beside the item why no catalog links it any more."""
    tombstone = {"id": keys.item_id, "reason": reason, "withdrawn": now.isoformat()}
    store.write_object(keys.tombstone, json.dumps(tombstone).encode(), JSON_MEDIA_TYPE)
