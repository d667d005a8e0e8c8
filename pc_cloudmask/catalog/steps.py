"""The steps of publishing.

A protocol is a generator that yields a ``Step`` after each of its effects, so that a test may stop it between any two,
as a crash does, or interleave several writers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE, AssetFile, encode_document
from pc_cloudmask.catalog.layout import PENDING_PREFIX, ItemKeys, is_state_key, item_keys, pending_key
from pc_cloudmask.errors import CloudmaskError, KeyExists, StoreUnavailable, WriteConflict
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectStore, StoredObject

#: More than enough: in each round, one of the writers that race for a document wins.
_SWAP_ATTEMPTS = 100
#: How long a marker's writer may take. The marker is removed once its batch is linked, which takes hours with the
#: embedded network at 90 CPU seconds a scene.
LEASE = timedelta(hours=6)
#: How far a writer's clock may be ahead; no writer puts a marker that expires later than that allows.
CLOCK_TOLERANCE = timedelta(days=1)
logger = logging.getLogger(__name__)


class StepName(StrEnum):
    """What a step did."""

    MARK = "mark"
    FILE = "file"
    ITEM = "item"
    SUPERSEDE = "supersede"
    RESTORE = "restore"
    READ = "read"
    RENDER = "render"
    WRITE = "write"
    CONFLICT = "conflict"
    UNMARK = "unmark"
    WITHDRAW = "withdraw"


class Step(NamedTuple):
    """One effect, or a read that a later effect depends on."""

    name: StepName
    key: str


Steps = Iterator[Step]
Render = Callable[[StoredObject | None], bytes | None]


def run_steps(steps: Steps) -> None:
    """Carry out every step."""
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
    """Replace the document at ``key`` with what ``render`` returns for the present one.

    The ETag is read before ``render`` lists anything. Whatever another writer publishes after that listing ends in a
    write of this key, which makes our write fail and start again. A document that is already correct is not written,
    nor is one for which ``render`` returns None. ``confirm`` renders once more after each write: a writer that withdrew
    and restored an item since the listing writes nothing if the document that ours replaced was correct.

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


@dataclass(frozen=True, slots=True)
class Marker:
    """Says that an item is being published or withdrawn; removed when the catalogs above the item show the change.

    ``sha256`` is the digest of the document that completes the writer's own part: the item, without its link to an
    older version, or the withdrawn marker. It is in the key too, so that of two writers of one item neither removes the
    other's marker. ``replaces`` says that the catalog had the item with another mask before.
    """

    id: str
    tile: str
    year: Annotated[int, Field(ge=0, le=9999)]
    sha256: str
    expires: AwareDatetime
    replaces: bool = False

    @property
    def keys(self) -> ItemKeys:
        """Keys of the item.

        Raises:
            InvalidField: its id or tile is invalid.
        """
        return item_keys(self.id, self.tile, self.year)

    @property
    def key(self) -> str:
        """Key of the marker itself."""
        return pending_key(self.id, self.sha256)

    def is_stale(self, now: datetime) -> bool:
        """Return True if its writer must be considered dead."""
        return not now < self.expires <= now + LEASE + CLOCK_TOLERANCE


_MARKER = TypeAdapter(Marker)


def build_marker(keys: ItemKeys, digest: str, now: datetime, *, replaces: bool = False) -> Marker:
    """Return the marker of a publication or withdrawal that begins now."""
    return Marker(keys.item_id, keys.year_keys.tile, keys.year_keys.year, digest, now + LEASE, replaces)


def write_marker(store: ObjectStore, marker: Marker) -> None:
    """Write the marker, replacing what an earlier attempt left there."""
    body = json.dumps(asdict(marker), default=datetime.isoformat).encode()
    store.write_object(marker.key, body, JSON_MEDIA_TYPE)


def list_markers(store: ObjectStore) -> Iterator[str]:
    """Yield the keys of all markers; an object whose name is no item's id is not a marker."""
    return (info.key for info in store.list_objects(PENDING_PREFIX) if is_state_key(info.key))


def read_marker(store: ObjectStore, key: str) -> Marker | None:
    """Return the marker at ``key``; None if it is gone or not ours."""
    stored = store.read_object(key)
    if stored is None:
        return None
    try:
        marker = _MARKER.validate_json(stored.body)
        item_keys(marker.id, marker.tile, marker.year)
        return marker if marker.key == key else None
    except (ValidationError, CloudmaskError):
        logger.warning("%s is not a marker of this program: check --repair removes it", key)
        return None


@dataclass(frozen=True)
class Publication:
    """An item that does not link another version yet, with every file that it links inside the store.

    ``better`` are methods whose masks it does not replace; ``replaces`` says that the catalog already has the item.
    """

    keys: ItemKeys
    item: Item = field(hash=False)
    files: tuple[AssetFile, ...]
    better: tuple[str, ...] = ()
    replaces: bool = False

    @cached_property
    def body(self) -> bytes:
        """The encoded item."""
        return encode_document(self.item)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the encoded item, in hex."""
        return sha256(self.body).hexdigest()
