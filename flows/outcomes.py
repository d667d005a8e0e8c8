"""How scenes ended, remembered beside the catalog for the runs to come."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from flows.errors import InvalidField
from flows.ports import ObjectStore
from flows.publish.scene_states import clear_state, record_failed, record_waiting
from flows.report import SceneOutcome, SceneState
from flows.stac.layout import FAILED_PREFIX, WAITING_PREFIX, check_item_id


def find_remembered(store: ObjectStore) -> frozenset[str]:
    """Ids of the scenes that an earlier run left waiting or failed; two listings."""
    return frozenset(
        info.key.removeprefix(prefix).removesuffix(".json")
        for prefix in (WAITING_PREFIX, FAILED_PREFIX)
        for info in store.list_objects(prefix)
    )


def remember_outcomes(
    store: ObjectStore, outcomes: Iterable[SceneOutcome], remembered: frozenset[str], now: datetime
) -> None:
    """Note each waiting or failed scene, and forget what is noted of one that is published by now.

    An outcome whose id can be no key, of an item that was refused for it, is in the report alone.
    """
    for outcome in outcomes:
        if not _is_key(outcome.id):
            continue
        if outcome.state is SceneState.WAITING:
            record_waiting(store, outcome.id, outcome.reason, now)
        elif outcome.state is SceneState.FAILED:
            record_failed(store, outcome.id, outcome.error_class, outcome.reason, outcome.retryable, now)
        elif outcome.id in remembered:
            clear_state(store, outcome.id)


def _is_key(item_id: str) -> bool:
    try:
        check_item_id(item_id)
    except InvalidField:
        return False
    return True
