"""Scenes that an earlier run left and that it is time to try again."""

from __future__ import annotations

from collections.abc import Iterator

from flows.ingestion import Ingestion, batches
from flows.ports import Item
from flows.scene.query import SceneQuery
from flows.unlisted_scenes import leave_unlisted
from flows.wiring import Wiring

IDS_AT_ONCE = 100


def retry_due_scenes(wiring: Wiring, ingestion: Ingestion) -> None:
    """Publish those scenes that are due, wherever they are.

    Raises:
        CloudmaskError: the source, the engine or the store ended it; what it did stays done.
    """
    due = {state.item_id: state for state in ingestion.noted.values() if state.is_due(wiring.now)}
    listed: set[str] = set()
    ingestion.publish(_find(wiring, sorted(due), listed))
    unlisted = [state for item_id, state in sorted(due.items()) if item_id not in listed]
    ingestion.note(leave_unlisted(wiring.store, unlisted))


def _find(wiring: Wiring, ids: list[str], listed: set[str]) -> Iterator[Item]:
    for asked in batches(ids, IDS_AT_ONCE):
        for item in wiring.source.find_items(SceneQuery(ids=tuple(asked))):
            listed.add(str(item.get("id")))
            yield item
