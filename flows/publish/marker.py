"""The marker of a publication, or a withdrawal, under way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.errors import CloudmaskError
from flows.ports import ObjectStore
from flows.scene.query import parse_instant
from flows.stac.layout import PENDING_PREFIX, ItemKeys, is_state_key, item_keys, pending_key
from flows.stac.links import JSON_MEDIA_TYPE

LEASE = timedelta(hours=6)
"""How long a marker's writer may take: it goes once the batch is linked, which takes the embedded network,
at 90 CPU seconds a scene, hours."""

#: How far a writer's clock may be ahead; a marker that expires later yet is none that a writer put.
CLOCK_TOLERANCE = timedelta(days=1)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Marker:
    """Says that an item is being published or withdrawn; it goes when the catalogs above it show that.

    ``digest`` is the SHA-256 of the document whose coming ends the writer's own part: the item, without
    its link to an older version, or the withdrawn marker. It is in the key too, so that of two writers of
    one item neither removes the other's marker.
    """

    keys: ItemKeys
    digest: str
    expires: datetime

    @property
    def key(self) -> str:
        return pending_key(self.keys.item_id, self.digest)

    def is_stale(self, now: datetime) -> bool:
        """Whether its writer must be taken for dead."""
        return not now < self.expires <= now + LEASE + CLOCK_TOLERANCE


def build_marker(keys: ItemKeys, digest: str, now: datetime) -> Marker:
    """The marker of what begins now."""
    return Marker(keys, digest, now + LEASE)


def write_marker(store: ObjectStore, marker: Marker) -> None:
    """Put the marker, whatever an earlier attempt left there."""
    document = {
        "id": marker.keys.item_id,
        "tile": marker.keys.leaf.tile,
        "year": marker.keys.leaf.year,
        "sha256": marker.digest,
        "expires": marker.expires.isoformat(),
    }
    store.write_object(marker.key, json.dumps(document).encode(), JSON_MEDIA_TYPE)


def list_markers(store: ObjectStore) -> Iterator[str]:
    """Keys of all markers; an object there whose name is no item's id is none."""
    for info in store.list_objects(PENDING_PREFIX):
        if is_state_key(info.key):
            yield info.key


def read_marker(store: ObjectStore, key: str) -> Marker | None:
    """The marker at ``key``; None where it is gone, or is none of ours."""
    stored = store.read_object(key)
    if stored is None:
        return None
    try:
        document = json.loads(stored.body)
        keys = item_keys(document["id"], document["tile"], int(document["year"]))
        if not 0 <= keys.leaf.year <= 9999:
            raise ValueError(f"{keys.leaf.year} is no year of four digits")
        marker = Marker(keys, str(document["sha256"]), parse_instant(document["expires"]))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, CloudmaskError):
        logger.warning("%s is not a marker of this program: check --repair removes it", key)
        return None
    return marker if marker.key == key else None
