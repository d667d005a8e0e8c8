"""The state that writers share: steps and compare-and-swap, markers of publications, and scenes to be tried again.

A protocol is a generator that yields a ``Step`` after each of its effects, so that a test may stop it between any two,
as a crash does, or interleave several writers. Where it raises ``StoreUnavailable``, it is safe to try again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, AwareDatetime, Field, TypeAdapter, ValidationError

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE, decode_document
from pc_cloudmask.catalog.layout import PENDING_PREFIX, ItemKeys, is_state_key, item_keys, pending_key
from pc_cloudmask.errors import CloudmaskError, KeyExists, StoreUnavailable, WriteConflict
from pc_cloudmask.scene.scene import check_item_id
from pc_cloudmask.storage.store import ObjectStore, StoredObject
from pc_cloudmask.text import make_printable

#: More than enough: in each round, one of the writers that race for a document wins.
_SWAP_ATTEMPTS = 100
#: How long a marker's writer may take. The marker is removed once its batch is linked, which takes hours with the
#: embedded network at 90 CPU seconds a scene.
LEASE = timedelta(hours=6)
#: How far a writer's clock may be ahead; no writer puts a marker that expires later than that allows.
CLOCK_TOLERANCE = timedelta(days=1)
FIRST_DELAY = timedelta(hours=1)
USUAL_LATENESS = timedelta(days=30)
#: The delay doubles with each attempt, up to a day while the scene may still be expected, later up to a week. Lateness
#: is heavy-tailed: some gaps were filled after years.
LONGEST_DELAY, LONGEST_LATE_DELAY = timedelta(days=1), timedelta(days=7)
_LONGEST_TEXT = 1000
_READERS = 16
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


def run_steps(steps: Steps) -> None:
    """Carry out every step."""
    for _ in steps:
        pass


def swap_steps(
    store: ObjectStore,
    key: str,
    render: Callable[[StoredObject | None], bytes | None],
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
        """Keys of the item; raises ``InvalidField`` if its id or tile is invalid."""
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
    """Yield the keys of all markers."""
    return _list_keys(store, PENDING_PREFIX)


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


class StateKind(StrEnum):
    """Why a scene is to be tried again; a provisional one is published, but not by the best method."""

    WAITING = "waiting"
    FAILED = "failed"
    PROVISIONAL = "provisional"

    @property
    def prefix(self) -> str:
        """Prefix of the keys of such states."""
        return f"_{self}/"

    def key(self, item_id: str) -> str:
        """Return the key of an item's state."""
        return f"{self.prefix}{check_item_id(item_id)}.json"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a scene failed."""

    error_class: str
    message: str
    retryable: bool
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class NotedState:
    """What is recorded about a scene after ``attempts`` tries; ``next_try`` is None if trying again cannot help.

    ``fingerprint`` is that of the mask's inputs: a changed item is tried at once. ``proven`` says that the
    reason is the item, which is wrong; only such a scene is quarantined. Earlier versions did not record this, and also
    quarantined for faults of the environment.
    """

    item_id: Annotated[str, AfterValidator(check_item_id)]
    kind: StateKind
    reason: str
    attempts: int
    first_try: AwareDatetime
    last_try: AwareDatetime
    next_try: AwareDatetime | None
    error_class: str = ""
    fingerprint: str = ""
    proven: bool = False

    @property
    def is_quarantined(self) -> bool:
        """Whether it is left alone until its item changes or someone asks for it."""
        return self.next_try is None and self.proven

    @property
    def key(self) -> str:
        """Key of this state."""
        return self.kind.key(self.item_id)

    def is_due(self, now: datetime) -> bool:
        """Return True if it is time to try again; a clock that ran ahead at the last attempt delays nothing.

        A scene that an earlier version set aside for good is due at once: trying it proves it wrong or clears it.
        """
        if self.next_try is None:
            return not self.proven
        return not self.last_try <= now < self.next_try


_STATE = TypeAdapter(NotedState)


def record_waiting(
    store: ObjectStore,
    item_id: str,
    reason: str,
    now: datetime,
    fingerprint: str = "",
    kind: StateKind = StateKind.WAITING,
) -> NotedState:
    """Record that the scene, or with ``kind`` a better mask of it, cannot be made yet."""
    return _record(store, NotedState(item_id, kind, reason, 1, now, now, now, fingerprint=fingerprint))


def record_failed(store: ObjectStore, item_id: str, failure: Failure, now: datetime) -> NotedState:
    """Record that the scene failed, and whether trying again can help."""
    next_try = now if failure.retryable else None
    state = NotedState(item_id, StateKind.FAILED, failure.message, 1, now, now, next_try, failure.error_class)
    return _record(store, replace(state, fingerprint=failure.fingerprint, proven=not failure.retryable))


def clear_state(store: ObjectStore, item_id: str) -> None:
    """Forget the state of a scene that needs no further try: it is published, or gone."""
    for kind in StateKind:
        store.delete_object(kind.key(item_id))


def list_states(store: ObjectStore) -> Iterator[NotedState]:
    """Yield all waiting scenes, then all failed ones, then all provisional ones, each sorted by id."""
    keys = [(kind, key) for kind in StateKind for key in _list_keys(store, kind.prefix)]
    with ThreadPoolExecutor(_READERS) as pool:
        yield from filter(None, pool.map(lambda entry: _read_state(store, *entry), keys))


def find_state(store: ObjectStore, kind: StateKind, item_id: str) -> NotedState | None:
    """Return the state of one scene; None if it has none."""
    return _read_state(store, kind, kind.key(item_id))


def _list_keys(store: ObjectStore, prefix: str) -> Iterator[str]:
    """Yield the keys below ``prefix``; an object whose name is no item's id is not ours."""
    return (info.key for info in store.list_objects(prefix) if is_state_key(info.key))


def _record(store: ObjectStore, state: NotedState) -> NotedState:
    """Write ``state``, continuing the count of an earlier one of its kind; a scene has one kind at a time."""
    earlier = find_state(store, state.kind, state.item_id)
    attempts = earlier.attempts + 1 if earlier else 1
    first_try = earlier.first_try if earlier else state.first_try
    is_late = state.last_try - first_try >= USUAL_LATENESS
    delay = min(FIRST_DELAY * 2.0 ** min(attempts - 1, 20), LONGEST_LATE_DELAY if is_late else LONGEST_DELAY)
    state = replace(
        state,
        reason=state.reason[:_LONGEST_TEXT],
        attempts=attempts,
        first_try=first_try,
        next_try=state.next_try and state.last_try + delay,
    )
    document = {"id": state.item_id, **asdict(state)}
    del document["item_id"], document["kind"]
    store.write_object(state.key, json.dumps(document, default=datetime.isoformat).encode(), JSON_MEDIA_TYPE)
    for kind in StateKind:
        if kind is not state.kind:
            store.delete_object(kind.key(state.item_id))
    return state


def _read_state(store: ObjectStore, kind: StateKind, key: str) -> NotedState | None:
    stored = store.read_object(key)
    if stored is None:
        return None
    try:
        document = decode_document(stored.body, key)
        state = _STATE.validate_python({"item_id": document.pop("id"), "kind": kind, **document})
    except (ValidationError, KeyError, CloudmaskError):
        logger.warning("%s is not a state of this program: remove it", key)
        return None
    # Another program may have put it there: its text is shown like any text from outside.
    return replace(state, reason=make_printable(state.reason), error_class=make_printable(state.error_class))
