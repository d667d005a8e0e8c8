"""The private state of scenes that are to be tried again: waiting, failed, or published provisionally."""

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
from pc_cloudmask.scene.ids import check_item_id
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.text import make_printable

FIRST_DELAY = timedelta(hours=1)
USUAL_LATENESS = timedelta(days=30)
#: The delay doubles with each attempt, up to a day while a scene may still be expected, and to a week after
#: that: lateness is heavy-tailed, gaps were filled years later.
LONGEST_DELAY, LONGEST_LATE_DELAY = timedelta(days=1), timedelta(days=7)
_LONGEST_TEXT = 1000
_READERS = 16
logger = logging.getLogger(__name__)


class StateKind(StrEnum):
    """Why a scene is to be tried again; a provisional one is published, by another method than the best."""

    WAITING = "waiting"
    FAILED = "failed"
    PROVISIONAL = "provisional"

    @property
    def prefix(self) -> str:
        """What the keys of such states begin with."""
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
    """What is noted of a scene, tried ``attempts`` times; ``next_try`` is None if trying cannot help.

    ``proven`` says of such a one why: its item is wrong. Only that is quarantined.
    """

    item_id: Annotated[str, AfterValidator(check_item_id)]
    kind: StateKind
    reason: str
    attempts: int
    first_try: AwareDatetime
    last_try: AwareDatetime
    next_try: AwareDatetime | None
    error_class: str = ""
    #: What the mask would have followed from: a changed item is tried at once.
    fingerprint: str = ""
    #: The item itself is wrong. Earlier versions did not say so, and quarantined for faults of the environment too.
    proven: bool = False

    @property
    def is_quarantined(self) -> bool:
        """Whether it is left alone until its item changes or someone asks for it."""
        return self.next_try is None and self.proven

    @property
    def key(self) -> str:
        """Its key."""
        return self.kind.key(self.item_id)

    def is_due(self, now: datetime) -> bool:
        """Return True if it is time to try again; a clock that ran ahead at the last attempt delays nothing.

        What an earlier version left alone for good is due at once: tried again, it is proven wrong or comes free.
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
    """Note that the scene, or with ``kind`` a better mask of it, cannot be made yet."""
    return _record(store, NotedState(item_id, kind, reason, 1, now, now, now, fingerprint=fingerprint))


def record_failed(store: ObjectStore, item_id: str, failure: Failure, now: datetime) -> NotedState:
    """Note that the scene failed, and whether trying again can help."""
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
    """Forget that the scene was to be tried again: it is published now, or gone."""
    for kind in StateKind:
        store.delete_object(kind.key(item_id))


def list_states(store: ObjectStore) -> Iterator[NotedState]:
    """Yield all waiting scenes, then all failed ones, then all provisional ones, each in order of id."""
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
    """Put ``state``, counted on from an earlier one of its kind; a scene is of one kind at a time."""
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
    """Return the time to the next attempt after so many, for a scene that has been late for so long."""
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
    # Another program may have put it there: what it says is shown like any text from outside.
    return replace(state, reason=make_printable(state.reason), error_class=make_printable(state.error_class))
