"""How fast requests go out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.earth_engine.pacing import Limits, TokenBucket


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(st.integers(1, 50), st.integers(1, 20), st.lists(st.floats(0, 2), max_size=60))
def test_no_span_of_time_sees_more_requests_than_the_bucket_allows(
    rate: int, burst: int, pauses: list[float]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock.read, clock.sleep)
    taken = []
    for pause in pauses:
        clock.sleep(pause)
        bucket.take()
        taken.append(clock.now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - start) + 1e-6


def test_a_rested_bucket_lets_a_burst_through_at_once() -> None:
    clock = Clock()
    bucket = TokenBucket(2, 5, clock.read, clock.sleep)
    for _ in range(5):
        bucket.take()
    assert clock.now == 100
    bucket.take()
    assert clock.now == 100.5


def test_a_pause_holds_everybody() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 5, clock.read, clock.sleep)
    bucket.pause(30)
    bucket.take()
    assert clock.now == 130


@given(st.integers(1, 10), st.floats(0, 100))
def test_the_delay_is_at_least_what_was_asked_for_and_bounded(attempt: int, asked_s: float) -> None:
    limits = Limits(first_delay_s=1, longest_delay_s=20)
    delay_s = limits.delay_s(attempt, asked_s)
    assert asked_s <= delay_s <= asked_s + min(20, 2 ** (attempt - 1))
