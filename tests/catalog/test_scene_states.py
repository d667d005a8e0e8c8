"""Scenes that wait or failed are remembered, tried again later and later, and forgotten when published."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from pc_cloudmask.catalog.states import (
    FIRST_DELAY,
    LONGEST_DELAY,
    LONGEST_LATE_DELAY,
    USUAL_LATENESS,
    Failure,
    StateKind,
    clear_state,
    find_state,
    list_states,
    record_failed,
    record_waiting,
)
from pc_cloudmask.errors import InvalidField
from tests.catalog.publications import NOW, product_id
from tests.doubles.memory_store import MemoryStore

SCENE = product_id(0)


def describe(moment: str, attempts: str) -> bytes:
    """A state as its JSON says it."""
    instants = "".join(f', "{name}_try": "{moment}"' for name in ("first", "last", "next"))
    return f'{{"id": "x", "reason": "", "error_class": "", "attempts": {attempts}{instants}}}'.encode()


def test_each_attempt_doubles_the_delay_up_to_a_day_and_later_to_a_week() -> None:
    store = MemoryStore()
    now, delays = NOW, []
    for attempt in range(1, 50):
        state = record_waiting(store, SCENE, "no image yet", now)
        assert state.next_try is not None
        assert (state.attempts, state.first_try, state.last_try) == (attempt, NOW, now)
        assert not state.is_due(state.next_try - timedelta(seconds=1))
        assert state.is_due(state.next_try)
        delays.append(state.next_try - now)
        now = state.next_try
    assert delays[:4] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    late = [delay for delay in delays if delay > LONGEST_DELAY]
    assert set(late) == {LONGEST_LATE_DELAY}
    assert sum(delays[: -len(late)], timedelta()) >= USUAL_LATENESS


def test_a_clock_that_ran_ahead_once_delays_no_attempt() -> None:
    store = MemoryStore()
    assert record_waiting(store, SCENE, "no image yet", NOW + timedelta(days=3650)).is_due(NOW)
    state = record_waiting(store, SCENE, "no image yet", NOW)
    assert not state.is_due(NOW)
    assert state.next_try is not None
    assert state.is_due(state.next_try)


def test_what_was_recorded_reads_back() -> None:
    store = MemoryStore()
    failure = Failure("AssetRefused", "B08: too large", retryable=False, fingerprint="1220ab")
    recorded = record_failed(store, SCENE, failure, NOW)
    assert (recorded.error_class, recorded.reason, recorded.fingerprint) == (
        "AssetRefused",
        "B08: too large",
        "1220ab",
    )
    assert recorded.next_try is None
    assert not recorded.is_due(NOW + timedelta(days=9999))
    assert find_state(store, StateKind.FAILED, SCENE) == recorded
    other = record_waiting(store, product_id(1), "no image yet", NOW, "1220cd")
    assert (other.reason, other.fingerprint) == ("no image yet", "1220cd")
    assert list(list_states(store)) == [other, recorded]


def test_a_scene_is_in_one_state_at_a_time() -> None:
    store = MemoryStore()
    record_waiting(store, SCENE, "no image yet", NOW)
    record_failed(store, SCENE, Failure("EngineUnavailable", "quota", retryable=True), NOW)
    assert [state.kind for state in list_states(store)] == [StateKind.FAILED]
    record_waiting(store, SCENE, "no image yet", NOW)
    assert [(state.kind, state.attempts) for state in list_states(store)] == [(StateKind.WAITING, 1)]
    record_waiting(store, SCENE, "no score yet", NOW, kind=StateKind.PROVISIONAL)
    assert [(state.kind, state.attempts) for state in list_states(store)] == [(StateKind.PROVISIONAL, 1)]
    clear_state(store, SCENE)
    assert store.objects == {}


def test_a_long_reason_is_cut() -> None:
    assert len(record_waiting(MemoryStore(), SCENE, "x" * 5000, NOW).reason) == 1000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"id": "../../x", "reason": ""}',
        describe("2026-01-01T00:00:00", "1"),  # in no time zone
        describe("2026-01-01T00:00:00Z", "1e999"),
    ],
)
def test_rubbish_is_passed_over_and_counted_anew(body: bytes) -> None:
    store = MemoryStore()
    store.objects["_failed/x.json"] = body
    store.objects[f"_waiting/{SCENE}.json"] = body
    assert list(list_states(store)) == []
    assert record_waiting(store, SCENE, "no image yet", NOW).attempts == 1


def test_an_id_that_is_no_key_is_refused() -> None:
    with pytest.raises(InvalidField, match="is not 1 to 128 letters"):
        record_waiting(MemoryStore(), "../../x", "no image yet", NOW)


def test_what_someone_planted_is_shown_without_its_secrets() -> None:
    store = MemoryStore()
    record_failed(store, SCENE, Failure("E", "x", retryable=True), NOW)
    key = next(iter(store.objects))
    planted = "https://user:hunter2@example.com/?sig=hunter2 \x1b[2J"  # pragma: allowlist secret
    store.objects[key] = store.objects[key].replace(
        b'"reason": "x"', f'"reason": {json.dumps(planted)}'.encode()
    )
    (state,) = list_states(store)
    assert "example.com" in state.reason
    assert "hunter2" not in state.reason
    assert "\x1b" not in state.reason
