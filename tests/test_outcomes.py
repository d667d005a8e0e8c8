"""How scenes ended is noted side by side: a thousand that wait cost a thousand round trips in one thread."""

from __future__ import annotations

import threading

from flows.outcomes import find_remembered, remember_outcomes
from flows.report import SceneOutcome, SceneState
from tests.publish.memory_store import MemoryStore
from tests.publish.publications import NOW, product_id

PATIENCE_S = 10


class MeetingStore(MemoryStore):
    """Ends a write once another one is under way."""

    def __init__(self) -> None:
        super().__init__()
        self._meeting = threading.Barrier(2, timeout=PATIENCE_S)

    def write_object(self, key: str, body: bytes, media_type: str) -> None:
        self._meeting.wait()
        super().write_object(key, body, media_type)


def test_outcomes_are_noted_side_by_side() -> None:
    store, ids = MeetingStore(), [product_id(day) for day in range(4)]
    states = (SceneState.WAITING, SceneState.FAILED)
    outcomes = [
        SceneOutcome(item_id, states[number % 2], "no image yet") for number, item_id in enumerate(ids)
    ]
    remember_outcomes(store, outcomes, frozenset(), NOW)
    assert find_remembered(store) == set(ids)
