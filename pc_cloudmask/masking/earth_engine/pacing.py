"""How fast requests go out to Earth Engine, how many at a time, and how often again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pc_cloudmask.masking.earth_engine.windows import FLOOR_PIXELS, WINDOW_BYTES

#: Earth Engine's default for a project; more are answered with 429.
CONCURRENT_REQUESTS = 40
#: What is left of the places that the service bears once it refuses a request.
LESS_AFTER_REFUSAL = 0.95


@dataclass(frozen=True, slots=True)
class Limits:
    """How a session treats the service.

    ``requests_per_second`` is half of Earth Engine's quota of 100: with requests of a second and more, the
    places in flight bind, not the rate. ``attempts`` counts the first.
    ``request_timeout_s`` is the five minutes after which Earth Engine itself gives up, and some.
    ``deadline_s`` bounds all requests for one raster, ``pairing_deadline_s`` all for a chunk of scenes.
    """

    requests_per_second: float = 50.0
    burst: int = CONCURRENT_REQUESTS
    attempts: int = 6
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    request_timeout_s: float = 320.0
    deadline_s: float = 1800.0
    pairing_deadline_s: float = 900.0
    window_bytes: int = WINDOW_BYTES
    floor_pixels: int = FLOOR_PIXELS

    def delay_s(self, attempt: int, asked_s: float | None = None) -> float:
        """Return the wait after failed attempt ``attempt`` (from 1): what the server asked for, or more.

        Exponential with full jitter, so that requests refused together do not come back together.
        """
        ceiling = min(self.longest_delay_s, self.first_delay_s * 2 ** (attempt - 1))
        # Jitter spreads load; it keeps no secret.
        return (asked_s or 0.0) + random.uniform(0.0, ceiling)  # nosec B311


class TokenBucket:
    """Lets at most ``burst`` requests through at once, and ``rate`` a second in the long run."""

    def __init__(
        self,
        rate: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s = 1.0 / rate
        self._credit_s = (burst - 1) * self._interval_s
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = clock() - self._credit_s

    def take(self) -> None:
        """Wait until one more request may go out; callers are served in order."""
        with self._lock:
            now = self._clock()
            turn = max(self._next, now - self._credit_s)
            self._next = turn + self._interval_s
        if turn > now:
            self._sleep(turn - now)

    def pause(self, seconds: float) -> None:
        """Let nobody through for ``seconds``: the server said it is too much."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


class Places:
    """Places in flight: at most ``most``, fewer once the service refuses requests as too many.

    What the service still works on when it refuses one is what it bears, so places fall to that at once, and a
    little below: other processes may share the quota. Then they grow by one in a round, that is in as many answers as
    there are places, by two in the next, by four, and so on until the next refusal. So a burst of refusals is over
    within some rounds, and a quota that stays low costs one refused request a round.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = float(most)
        self._step = 1.0
        self._taken = self._refusals = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._places)

    @contextmanager
    def take(self) -> Iterator[int]:
        """Hold a place, once there is one; what it is given tells ``refuse`` when it was taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self.limit)
            self._taken += 1
            begun = self._refusals
        try:
            yield begun
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify()

    def grow(self) -> None:
        """Hear that a request was answered."""
        with self._changed:
            self._places = min(self._most, self._places + self._step / self._places)
            self._step = min(self._most, self._step * 2 ** (1 / self._places))
            self._changed.notify()

    def refuse(self, begun: int) -> None:
        """Hear that a request, which still has its place, was too many; ``begun`` is what ``take`` gave it."""
        with self._changed:
            self._places = min(self._places, max(1.0, self._taken - 1))
            self._step = 1.0
            if begun == self._refusals:
                # The others that were under way at the time tell nothing new.
                self._refusals += 1
                self._places = max(1.0, self._places * LESS_AFTER_REFUSAL)
