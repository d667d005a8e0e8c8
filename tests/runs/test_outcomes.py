"""How scenes ended is noted side by side: a thousand that wait cost a thousand round trips in one thread."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import Ingestion, find_remembered, remember_outcomes
from pc_cloudmask.runs.report import SceneOutcome, SceneState
from pc_cloudmask.runs.runners import ThreadRunner
from pc_cloudmask.settings import Settings
from tests.catalog.publications import NOW, product_id
from tests.doubles.memory_store import MemoryStore

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


def failures(count: int) -> list[SceneOutcome]:
    return [
        SceneOutcome(f"S2_{number}", SceneState.FAILED, "id is missing", error_class="MissingField")
        for number in range(count)
    ]


def test_only_so_many_new_states_are_noted_and_known_ones_always() -> None:
    store, ended = MemoryStore(), failures(10)
    known = frozenset({"S2_8"})
    assert remember_outcomes(store, ended[:4], known, NOW, 5) == 1
    assert remember_outcomes(store, ended[4:], known, NOW, 1) == -4
    assert find_remembered(store) == {"S2_0", "S2_1", "S2_2", "S2_3", "S2_4", "S2_8"}


def test_a_run_says_once_that_it_notes_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pc_cloudmask.runs.ingest.MAX_NEW_STATES", 5)
    context = RunContext(Settings(store=str(tmp_path)))
    ingestion = Ingestion(context, ThreadRunner(1))
    assert ingestion.is_complete
    for part in (failures(10)[:4], failures(10)[4:], [], failures(20)[10:]):
        ingestion.note(part)
    assert len(find_remembered(context.store)) == 5
    assert len(ingestion.outcomes) == 20
    assert not ingestion.is_complete, "a scan that left scenes out is not done"
    assert [record.getMessage()[:11] for record in caplog.records] == ["more than 5"]
