"""The private state of scenes that will be tried again: waiting, failed, or published provisionally."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, TypeAdapter, ValidationError

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE, decode_document
from pc_cloudmask.catalog.layout import FAILED_PREFIX, PROVISIONAL_PREFIX, WAITING_PREFIX, is_state_key
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.scene.scene import check_item_id
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.text import make_printable

FIRST_DELAY = timedelta(hours=1)
USUAL_LATENESS = timedelta(days=30)
#: The delay doubles with each attempt, up to a day while the scene may still be expected, later up to a week. Lateness
#: is heavy-tailed: some gaps were filled after years.
LONGEST_DELAY, LONGEST_LATE_DELAY = timedelta(days=1), timedelta(days=7)
_LONGEST_TEXT = 1000
_READERS = 16
logger = logging.getLogger(__name__)


class StateKind(StrEnum):
    """Why a scene is to be tried again; a provisional one is published, but not by the best method."""

    WAITING = "waiting"
    FAILED = "failed"
    PROVISIONAL = "provisional"

    @property
    def prefix(self) -> str:
        """Prefix of the keys of such states."""
        return _PREFIXES[self]

    def key(self, item_id: str) -> str:
        """Return the key of an item's state."""
        return f"{self.prefix}{check_item_id(item_id)}.json"


_PREFIXES = {
    StateKind.WAITING: WAITING_PREFIX,
    StateKind.FAILED: FAILED_PREFIX,
    StateKind.PROVISIONAL: PROVISIONAL_PREFIX,
}


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

    ``proven`` says that the reason is its item, which is wrong. Only such a scene is quarantined.
    """

    item_id: Annotated[str, AfterValidator(check_item_id)]
    kind: StateKind
    reason: str
    attempts: int
    first_try: AwareDatetime
    last_try: AwareDatetime
    next_try: AwareDatetime | None
    error_class: str = ""
    #: What would have determined the mask: a changed item is tried at once.
    fingerprint: str = ""
    #: The item itself is wrong. Earlier versions did not record this, and also quarantined for faults of the
    #: environment.
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
    state = NotedState(item_id, StateKind.FAILED, failure.message, 1, now, now, next_try)
    return _record(
        store,
        replace(
            state,
            error_class=failure.error_class,
            fingerprint=failure.fingerprint,
            proven=not failure.retryable,
        ),
    )


def clear_state(store: ObjectStore, item_id: str) -> None:
    """Forget the state of a scene that needs no further try: it is published, or gone."""
    for kind in StateKind:
        store.delete_object(kind.key(item_id))


def list_states(store: ObjectStore) -> Iterator[NotedState]:
    """Yield all waiting scenes, then all failed ones, then all provisional ones, each sorted by id."""
    keys = [
        (kind, info.key)
        for kind in StateKind
        for info in store.list_objects(kind.prefix)
        if is_state_key(info.key)
    ]
    with ThreadPoolExecutor(_READERS) as pool:
        yield from filter(None, pool.map(lambda entry: _read_state(store, *entry), keys))


def find_state(store: ObjectStore, kind: StateKind, item_id: str) -> NotedState | None:
    """Return the state of one scene; None if it has none."""
    return _read_state(store, kind, kind.key(item_id))


def _record(store: ObjectStore, state: NotedState) -> NotedState:
    """Write ``state``, continuing the count of an earlier one of its kind; a scene has one kind at a time."""
    earlier = find_state(store, state.kind, state.item_id)
    attempts = earlier.attempts + 1 if earlier else 1
    first_try = earlier.first_try if earlier else state.first_try
    state = replace(
        state,
        reason=state.reason[:_LONGEST_TEXT],
        attempts=attempts,
        first_try=first_try,
        next_try=state.next_try and state.last_try + _find_delay(attempts, state.last_try - first_try),
    )
    store.write_object(state.key, _encode(state), JSON_MEDIA_TYPE)
    for kind in StateKind:
        if kind is not state.kind:
            store.delete_object(kind.key(state.item_id))
    return state


def _find_delay(attempts: int, late: timedelta) -> timedelta:
    """Return the delay before the next attempt, after ``attempts`` tries of a scene that has been late for ``late``."""
    longest = LONGEST_DELAY if late < USUAL_LATENESS else LONGEST_LATE_DELAY
    return min(FIRST_DELAY * 2.0 ** min(attempts - 1, 20), longest)


def _encode(state: NotedState) -> bytes:
    document = asdict(state)
    del document["kind"]
    return json.dumps({"id": document.pop("item_id"), **document}, default=datetime.isoformat).encode()


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
