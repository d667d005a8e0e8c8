"""The private state of scenes that are not published: waiting or failed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from flows.errors import InvalidField
from flows.ports import ObjectStore
from flows.stac.layout import FAILED_PREFIX, WAITING_PREFIX, check_item_id, is_state_key
from flows.stac.links import JSON_MEDIA_TYPE

FIRST_DELAY = timedelta(hours=1)
LONGEST_DELAY = timedelta(days=7)
"""The delay doubles with each attempt: lateness is heavy-tailed, gaps were filled years later."""
_LONGEST_TEXT = 1000

logger = logging.getLogger(__name__)


class StateKind(StrEnum):
    """Why a scene is not published."""

    WAITING = "waiting"
    FAILED = "failed"

    @property
    def prefix(self) -> str:
        return WAITING_PREFIX if self is StateKind.WAITING else FAILED_PREFIX


@dataclass(frozen=True, slots=True)
class SceneState:
    """One scene that was tried ``attempts`` times; ``next_try`` is None where trying cannot help."""

    item_id: str
    kind: StateKind
    reason: str
    attempts: int
    first_try: datetime
    last_try: datetime
    next_try: datetime | None
    error_class: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind.prefix}{self.item_id}.json"

    def is_due(self, now: datetime) -> bool:
        """Whether it is time to try again."""
        return self.next_try is not None and now >= self.next_try


def record_waiting(store: ObjectStore, item_id: str, reason: str, now: datetime) -> SceneState:
    """Note that the scene cannot be made yet."""
    return _record(store, SceneState(item_id, StateKind.WAITING, reason, 1, now, now, now))


def record_failed(
    store: ObjectStore, item_id: str, error_class: str, message: str, retryable: bool, now: datetime
) -> SceneState:
    """Note that the scene failed, and whether trying again can help."""
    next_try = now if retryable else None
    return _record(store, SceneState(item_id, StateKind.FAILED, message, 1, now, now, next_try, error_class))


def clear_state(store: ObjectStore, item_id: str) -> None:
    """Forget that the scene waited or failed: it is published now."""
    for kind in StateKind:
        store.delete_object(f"{kind.prefix}{check_item_id(item_id)}.json")


def list_states(store: ObjectStore) -> Iterator[SceneState]:
    """All waiting scenes, then all failed ones, each in order of id."""
    for kind in StateKind:
        for info in store.list_objects(kind.prefix):
            state = _read_state(store, kind, info.key) if is_state_key(info.key) else None
            if state is not None:
                yield state


def find_state(store: ObjectStore, kind: StateKind, item_id: str) -> SceneState | None:
    """The state of one scene; None where it has none."""
    return _read_state(store, kind, f"{kind.prefix}{check_item_id(item_id)}.json")


def _record(store: ObjectStore, state: SceneState) -> SceneState:
    """Put ``state``, counted on from an earlier one of its kind; a scene is of one kind at a time."""
    earlier = find_state(store, state.kind, state.item_id)
    attempts = earlier.attempts + 1 if earlier else 1
    state = replace(
        state,
        reason=state.reason[:_LONGEST_TEXT],
        attempts=attempts,
        first_try=earlier.first_try if earlier else state.first_try,
        next_try=state.next_try and state.last_try + _find_delay(attempts),
    )
    store.write_object(state.key, json.dumps(_as_document(state)).encode(), JSON_MEDIA_TYPE)
    for kind in StateKind:
        if kind is not state.kind:
            store.delete_object(replace(state, kind=kind).key)
    return state


def _find_delay(attempts: int) -> timedelta:
    """Time to the next attempt after so many."""
    return min(FIRST_DELAY * 2.0 ** min(attempts - 1, 20), LONGEST_DELAY)


def _as_document(state: SceneState) -> dict[str, Any]:
    return {
        "id": state.item_id,
        "reason": state.reason,
        "attempts": state.attempts,
        "first_try": state.first_try.isoformat(),
        "last_try": state.last_try.isoformat(),
        "next_try": state.next_try.isoformat() if state.next_try else None,
        "error_class": state.error_class,
    }


def _read_state(store: ObjectStore, kind: StateKind, key: str) -> SceneState | None:
    stored = store.read_object(key)
    if stored is None:
        return None
    try:
        document = json.loads(stored.body)
        next_try = document["next_try"]
        return SceneState(
            check_item_id(document["id"]),
            kind,
            str(document["reason"]),
            int(document["attempts"]),
            datetime.fromisoformat(document["first_try"]),
            datetime.fromisoformat(document["last_try"]),
            datetime.fromisoformat(next_try) if next_try else None,
            str(document["error_class"]),
        )
    except (ValueError, TypeError, LookupError, RecursionError, InvalidField):
        logger.warning("%s is not a state of this program: remove it", key)
        return None
