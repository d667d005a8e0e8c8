"""How fast requests go out to Earth Engine, how many at a time, and how often again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pc_cloudmask.masking.earth_engine.windows import FLOOR_PIXELS, WINDOW_BYTES

#: Earth Engine's default for a project; more are answered with 429.
CONCURRENT_REQUESTS = 40
#: A scene's windows that are under way at a time when every worker has one: computing overlaps receiving.
REQUESTS_PER_WORKER = 2


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
