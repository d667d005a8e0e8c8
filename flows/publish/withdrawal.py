"""Taking back an item whose scene its source has taken back."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256

from flows.errors import StoreUnavailable
from flows.ports import ObjectStore, StoredObject
from flows.publish.generations import settle_steps
from flows.publish.marker import Marker, build_marker, write_marker
from flows.publish.steps import Step, StepName, Steps, swap_steps
from flows.stac.encoding import decode_document, encode_document
from flows.stac.layout import ItemKeys
from flows.stac.links import GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE, CatalogContext
from stac_ext.cloudmask import FINGERPRINT_PROP


def withdraw_steps(
    store: ObjectStore, context: CatalogContext, keys: ItemKeys, reason: str, now: datetime
) -> Steps:
    """Deprecate the item and put its withdrawn marker, after which no catalog that is written links it.

    The fingerprint goes, so that the scene is published again should its source bring it back. Who does
    that meanwhile and this both settle once their own object is there, so one of them sees both. The pending
    marker of ``mark_withdrawal`` stays until the year's catalog is written.
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
    marker = mark_withdrawal(keys, reason, now)
    write_marker(store, marker)
    yield Step(StepName.MARK, marker.key)
    yield from swap_steps(store, keys.item, render, GEOJSON_MEDIA_TYPE)
    write_tombstone(store, keys, reason, now)
    yield Step(StepName.BURY, keys.tombstone)
    yield from settle_steps(store, context, keys)


def mark_withdrawal(keys: ItemKeys, reason: str, now: datetime) -> Marker:
    """Return the pending marker of a withdrawal that begins now."""
    return build_marker(keys, sha256(_encode_tombstone(keys, reason, now)).hexdigest(), now)


def write_tombstone(store: ObjectStore, keys: ItemKeys, reason: str, now: datetime) -> None:
    """Say in the item's folder why no catalog links it any more."""
    store.write_object(keys.tombstone, _encode_tombstone(keys, reason, now), JSON_MEDIA_TYPE)


def _encode_tombstone(keys: ItemKeys, reason: str, now: datetime) -> bytes:
    return json.dumps({"id": keys.item_id, "reason": reason, "withdrawn": now.isoformat()}).encode()
