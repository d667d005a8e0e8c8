"""How many requests are in flight: a service and its client in simulated time, event by event."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest

from pc_cloudmask.masking.earth_engine.pacing import Limits, Place, Places

MOST = 40
LATENCY_S, REFUSED_AFTER_S = 6.0, 0.02
Held = tuple[AbstractContextManager[Place], Place]
#: How many requests the service bears at a time.
Bears = Callable[[float], int]


@dataclass
class Simulation:
    """A client that has enough to ask for and repeats what is refused, and a service that answers after a while."""

    bears: Bears
    latency_s: float = LATENCY_S
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    now: float = 0.0
    answered: int = 0
    refused: int = 0
    given_up: int = 0
    _served: int = 0
    _repeats: list[int] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = Places(MOST, lambda: self.now)
        self._held = 0

    def run(self, seconds: float) -> float:
        """Return the mean number of requests that the service worked on, in ``seconds``."""
        ends, work = self.now + seconds, 0.0
        self._send_all()
        while self._events and self._events[0][0] <= ends:
            at, _, happen = heapq.heappop(self._events)
            work += self._served * (at - self.now)
            self.now = at
            happen()
            self._send_all()
        work += self._served * (ends - self.now)
        self.now = ends
        return work / seconds

    def _at(self, moment: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, len(self._events) + self.answered + self.refused, happen))

    def _send_all(self) -> None:
        while self._held < self.places.limit and not self.places.pause_s:
            attempt = self._repeats.pop(0) if self._repeats else 1
            taking = self.places.take()
            held = taking, taking.__enter__()
            self._held += 1
            if self._served < self.bears(self.now):
                self._served += 1
                after_s = self.latency_s * self.dice.uniform(0.9, 1.1)
                self._at(self.now + after_s, lambda held=held: self._answer(held))
            else:
                self._at(
                    self.now + REFUSED_AFTER_S, lambda held=held, attempt=attempt: self._refuse(held, attempt)
                )

    def _answer(self, held: Held) -> None:
        self._served -= 1
        self.answered += 1
        self.places.grow(held[1])
        self._leave(held)

    def _refuse(self, held: Held, attempt: int) -> None:
        self.refused += 1
        self.places.refuse(held[1])
        self._leave(held)
        if pause_s := self.places.pause_s:
            self._at(self.now + pause_s, lambda: None)
        limits = Limits()
        if attempt == limits.attempts:
            self.given_up += 1
            return
        delay_s = self.dice.uniform(0, 2 ** (attempt - 1))
        self._at(self.now + delay_s, lambda: self._repeats.append(attempt + 1))

    def _leave(self, held: Held) -> None:
        held[0].__exit__(None, None, None)
        self._held -= 1


@pytest.mark.parametrize("latency_s", [1.0, 6.0, 30.0])
@pytest.mark.parametrize("bears", [1, 3, 10, 30, 39, 40])
def test_places_settle_at_what_the_service_bears(bears: int, latency_s: float) -> None:
    simulation = Simulation(lambda _now: bears, latency_s)
    simulation.run(10 * latency_s)
    simulation.refused = simulation.given_up = 0
    assert simulation.run(40 * latency_s) >= 0.9 * bears
    # One refused request a round is what it costs to see whether more is borne by now.
    assert simulation.refused <= 45
    assert bears == 1 or simulation.given_up == 0


@pytest.mark.slow
@pytest.mark.parametrize(("every_s", "burst_s"), [(22, 2), (60, 5), (300, 20)])
@pytest.mark.parametrize("seed", range(4))
def test_bursts_of_refusals_cost_hardly_more_than_their_time(
    every_s: float, burst_s: float, seed: int
) -> None:
    def bears(now: float) -> int:
        return 0 if now % every_s >= every_s - burst_s else MOST

    simulation = Simulation(bears, dice=random.Random(seed))
    kept = simulation.run(10 * every_s)
    assert kept >= 0.8 * MOST
    assert simulation.given_up <= 0.01 * simulation.answered


@pytest.mark.parametrize(("before", "after"), [(40, 10), (40, 25), (25, 3), (10, 40), (3, 40)])
def test_a_quota_that_changes_is_found(before: int, after: int) -> None:
    changes_s = 20 * LATENCY_S
    simulation = Simulation(lambda now: before if now < changes_s else after)
    simulation.run(changes_s)
    simulation.run(12 * LATENCY_S)
    assert simulation.run(20 * LATENCY_S) >= 0.85 * after


def test_refusals_at_random_take_few_places() -> None:
    dice = random.Random(5)
    simulation = Simulation(lambda _now: 0 if dice.random() < 0.02 else MOST)
    assert simulation.run(600) >= 0.7 * MOST


def test_requests_that_were_under_way_together_count_as_one_refusal() -> None:
    places = Places(MOST)
    held = [(taking, taking.__enter__()) for taking in (places.take() for _ in range(20))]
    for taking, place in held[:10]:
        places.refuse(place)
        taking.__exit__(None, None, None)
    assert places.limit == 10


def test_the_last_place_stays() -> None:
    places = Places(4)
    for _ in range(10):
        with places.take() as place:
            places.refuse(place)
    assert places.limit == 1
