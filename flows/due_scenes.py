"""Scenes that an earlier run left and that it is time to try again."""

from __future__ import annotations

from collections.abc import Iterator

from flows.ingestion import Ingestion
from flows.ports import Item
from flows.publish.scene_states import SceneState as NotedState
from flows.publish.scene_states import clear_state
from flows.report import SceneOutcome, SceneState
from flows.scene.query import SceneQuery
from flows.wiring import Wiring

IDS_AT_ONCE = 100
UNLISTED = "the source does not list it now"
FORGET_AFTER = 5
"""Attempts after which a scene that the source does not list, nor did at the one before, is forgotten: should
it list it again, the scan of everything finds it. One empty answer forgets nothing."""


def retry_due_scenes(wiring: Wiring, ingestion: Ingestion) -> None:
    """Publish those scenes that are due, wherever they are.

    Raises:
        CloudmaskError: the source, the engine or the store ended it; what it did stays done.
    """
    due = {state.item_id: state for state in ingestion.noted.values() if state.is_due(wiring.now)}
    listed: set[str] = set()
    ingestion.publish(_find(wiring, sorted(due), listed))
    unlisted = [state for item_id, state in sorted(due.items()) if item_id not in listed]
    ingestion.note(_wait(wiring, unlisted))


def _find(wiring: Wiring, ids: list[str], listed: set[str]) -> Iterator[Item]:
    for start in range(0, len(ids), IDS_AT_ONCE):
        for item in wiring.source.find_items(SceneQuery(ids=tuple(ids[start : start + IDS_AT_ONCE]))):
            listed.add(str(item.get("id")))
            yield item


def _wait(wiring: Wiring, unlisted: list[NotedState]) -> Iterator[SceneOutcome]:
    for state in unlisted:
        if state.attempts >= FORGET_AFTER and state.reason == UNLISTED:
            clear_state(wiring.store, state.item_id)
        else:
            yield SceneOutcome(
                state.item_id, SceneState.WAITING, UNLISTED, retryable=True, fingerprint=state.fingerprint
            )
