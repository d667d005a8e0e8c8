"""How fast requests go out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.earth_engine.pacing import Limits, Places, TokenBucket


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


class Service:
    """A service that takes ``bears`` requests at a time, and a client that sends as many as it has places for."""

    def __init__(self, most: int, bears: int) -> None:
        self.places, self.bears = Places(most), bears
        self.under_way: list[tuple[AbstractContextManager[int], int]] = []
        self.refused = 0

    def send_all(self) -> None:
        """Send while there are places; what is refused comes back at once."""
        while len(self.under_way) < self.places.limit:
            place = self.places.take()
            begun = place.__enter__()
            if len(self.under_way) < self.bears:
                self.under_way.append((place, begun))
                continue
            self.refused += 1
            self.places.refuse(begun)
            place.__exit__(None, None, None)

    def run_round(self) -> float:
        """Answer all that is under way, one after another, each followed by the next; return the mean at a time."""
        at_a_time = []
        for _ in range(len(self.under_way)):
            place, _ = self.under_way.pop(0)
            place.__exit__(None, None, None)
            self.places.grow()
            self.send_all()
            at_a_time.append(len(self.under_way))
        return mean(at_a_time)


@pytest.mark.parametrize("bears", [1, 3, 10, 39, 40])
def test_places_settle_at_what_the_service_bears(bears: int) -> None:
    service = Service(40, bears)
    for _ in range(40):
        service.send_all()
        service.run_round()
    service.refused = 0
    assert mean(service.run_round() for _ in range(20)) >= 0.9 * bears
    # One refused request a round is what it costs to see whether more is borne by now.
    assert service.refused <= 21


def test_places_come_back_after_a_burst_of_refusals() -> None:
    service = Service(40, 40)
    service.send_all()
    service.bears = 5
    service.run_round()
    service.send_all()
    assert service.places.limit <= 5
    service.bears = 40
    rounds = 0
    while service.places.limit < 36:
        service.send_all()
        service.run_round()
        rounds += 1
    assert rounds <= 7


def test_requests_that_were_under_way_together_count_as_one_refusal() -> None:
    places = Places(40)
    held = [(place, place.__enter__()) for place in (places.take() for _ in range(20))]
    for place, begun in held[:10]:
        places.refuse(begun)
        place.__exit__(None, None, None)
    assert places.limit == 10


def test_the_last_place_stays() -> None:
    places = Places(4)
    for _ in range(10):
        with places.take() as begun:
            places.refuse(begun)
    assert places.limit == 1
