"""The steps that publishing consists of.

A protocol is written as a generator that yields a ``Step`` after each of its effects, so that a
test may stop it between any two, as a dying machine does, or interleave several writers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import PENDING_PREFIX, ItemKeys, is_state_key, item_keys, pending_key
from pc_cloudmask.errors import CloudmaskError, KeyExists, StoreUnavailable, WriteConflict
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.storage.store import ObjectStore, StoredObject

#: Of any number of writers that race for one document, one wins each round.
_SWAP_ATTEMPTS = 100


class StepName(StrEnum):
    """What a step did."""

    MARK = "mark"
    FILE = "file"
    ITEM = "item"
    SUPERSEDE = "supersede"
    RESTORE = "revive"
    READ = "read"
    RENDER = "render"
    WRITE = "write"
    CONFLICT = "conflict"
    UNMARK = "unmark"
    BURY = "bury"


class Step(NamedTuple):
    """One effect, or one reading that a later effect rests on."""

    name: StepName
    key: str


Steps = Iterator[Step]
Render = Callable[[StoredObject | None], bytes | None]


def run_steps(steps: Steps) -> None:
    """Take every step."""
    for _ in steps:
        pass


def swap_steps(
    store: ObjectStore,
    key: str,
    render: Render,
    media_type: str = JSON_MEDIA_TYPE,
    *,
    confirm: bool = False,
) -> Steps:
    """Bring the document at ``key`` to what ``render`` makes of the present one.

    The ETag is read before ``render`` lists anything: whatever another writer publishes after
    that listing ends in a write of this key, which makes ours fail and start again. A document
    that is right already is not written, nor is one for which ``render`` gives None. ``confirm`` renders
    once more after each write: what was taken back and then restored since the listing needs no write where
    the document that ours replaces was right.

    Raises:
        StoreUnavailable: every attempt lost against another writer.
    """
    for _ in range(_SWAP_ATTEMPTS):
        current = store.read_object(key)
        yield Step(StepName.READ, key)
        body = render(current)
        yield Step(StepName.RENDER, key)
        if body is None or (current is not None and current.body == body):
            return
        try:
            if current is None:
                store.create_object(key, body, media_type)
            else:
                store.replace_object(key, body, media_type, current.etag)
        except (KeyExists, WriteConflict):
            yield Step(StepName.CONFLICT, key)
            continue
        yield Step(StepName.WRITE, key)
        if not confirm:
            return
    raise StoreUnavailable(f"{key}: lost {_SWAP_ATTEMPTS} times against other writers: try again with fewer")


#: How long a marker's writer may take: it goes once the batch is linked, which takes the embedded network, at
#: 90 CPU seconds a scene, hours.
LEASE = timedelta(hours=6)
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
        "tile": marker.keys.year_keys.tile,
        "year": marker.keys.year_keys.year,
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
        if not 0 <= keys.year_keys.year <= 9999:
            raise ValueError(f"{keys.year_keys.year} is no year of four digits")
        marker = Marker(keys, str(document["sha256"]), parse_instant(document["expires"]))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, CloudmaskError):
        logger.warning("%s is not a marker of this program: check --repair removes it", key)
        return None
    return marker if marker.key == key else None


@dataclass(frozen=True, slots=True)
class PublicationFile:
    """One asset's file under a key that carries the hash of its content."""

    key: str
    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Publication:
    """An encoded item with every file that it links inside the store."""

    keys: ItemKeys
    item: bytes
    files: tuple[PublicationFile, ...]
