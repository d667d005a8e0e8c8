"""How scenes ended, remembered beside the catalog for the runs to come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from flows.candidate import Candidate
from flows.ports import ObjectStore
from flows.publish.scene_states import Failure, NotedState, clear_state, record_failed, record_waiting
from flows.report import SceneOutcome, SceneState
from flows.stac.layout import FAILED_PREFIX, WAITING_PREFIX, is_item_id

MAX_NEW_STATES = 5_000
"""Scenes that one run notes as waiting or failed for the first time. Each later run reads every state: these
take ten seconds from a bucket. A page of junk wrote 55,763."""
_WRITERS = 16
"""States noted side by side: requests wait for the network, or for the disk to sync."""


def find_remembered(store: ObjectStore) -> frozenset[str]:
    """Ids of the scenes that an earlier run left waiting or failed; two listings."""
    return frozenset(
        info.key.removeprefix(prefix).removesuffix(".json")
        for prefix in (WAITING_PREFIX, FAILED_PREFIX)
        for info in store.list_objects(prefix)
    )


def remember_outcomes(
    store: ObjectStore,
    outcomes: Iterable[SceneOutcome],
    remembered: frozenset[str],
    now: datetime,
    room: int = MAX_NEW_STATES,
) -> int:
    """Note each waiting or failed scene, and forget what is noted of one that is published by now.

    An outcome whose id can be no key, of an item that was refused for it, is in the report alone, and so
    are those beyond the first ``room`` of which nothing is noted yet. One that was held back is noted
    already.

    Returns:
        What is left of ``room``; negative, of how many nothing could be noted.
    """

    def remember(outcome: SceneOutcome) -> None:
        if outcome.state is SceneState.WAITING:
            record_waiting(store, outcome.id, outcome.reason, now, outcome.fingerprint)
        elif outcome.state is SceneState.FAILED:
            failure = Failure(outcome.error_class, outcome.reason, outcome.retryable, outcome.fingerprint)
            record_failed(store, outcome.id, failure, now)
        elif outcome.id in remembered:
            clear_state(store, outcome.id)

    told = [outcome for outcome in outcomes if not outcome.held and is_item_id(outcome.id)]
    new = [outcome for outcome in told if outcome.id not in remembered and _is_noted(outcome)]
    beyond = {outcome.id for outcome in new[room:]}
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(remember, (outcome for outcome in told if outcome.id not in beyond)))
    return room - len(new)


def _is_noted(outcome: SceneOutcome) -> bool:
    return outcome.state in (SceneState.WAITING, SceneState.FAILED)


def hold_back(
    scene: Candidate | SceneOutcome, noted: Mapping[str, NotedState], now: datetime
) -> SceneOutcome | None:
    """The outcome of a scene that an earlier run left waiting or failed and that it is not yet time to try.

    None for one that is to be tried: nothing is noted of it, it is due, or its item has changed since.
    """
    scene_id = scene.scene.id if isinstance(scene, Candidate) else scene.id
    state = noted.get(scene_id)
    if state is None or state.is_due(now) or state.fingerprint != scene.fingerprint:
        return None
    return SceneOutcome(
        scene_id,
        SceneState(state.kind),
        state.reason,
        retryable=not state.is_quarantined,
        error_class=state.error_class,
        held=True,
        fingerprint=state.fingerprint,
    )
