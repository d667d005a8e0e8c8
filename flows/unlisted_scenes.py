"""Remembered scenes that the source does not list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows.ports import ObjectStore
from flows.publish.scene_states import NotedState, clear_state
from flows.report import SceneOutcome, SceneState

UNLISTED = "the source does not list it now"
FORGET_AFTER = 5
"""Attempts from which on a scene is forgotten that the source did not list twice running: one empty answer
forgets nothing. Should the source list it again, the scan of everything finds it."""


def leave_unlisted(store: ObjectStore, unlisted: Iterable[NotedState]) -> Iterator[SceneOutcome]:
    """Their outcomes: they wait, quarantined ones too, until they are listed again or forgotten."""
    for state in unlisted:
        if state.attempts >= FORGET_AFTER and state.reason == UNLISTED:
            clear_state(store, state.item_id)
        else:
            yield SceneOutcome(
                state.item_id, SceneState.WAITING, UNLISTED, retryable=True, fingerprint=state.fingerprint
            )
