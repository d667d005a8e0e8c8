"""How fast requests go out, and how they are spread over scenes."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flows.adapters.earth_engine.windows import FLOOR_PIXELS, WINDOW_BYTES

CONCURRENT_REQUESTS = 40
"""Earth Engine's default for a project; more are answered with 429."""
REQUESTS_PER_WORKER = 2
"""A scene's windows that are under way at a time when every worker has one: computing overlaps receiving."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How a session treats the service.

    ``requests_per_second`` is a tenth of Earth Engine's quota of 100. ``attempts`` counts the first.
    ``request_timeout_s`` is the five minutes after which Earth Engine itself gives up, and some.
    ``deadline_s`` bounds all requests for one raster or one batch of scenes together.
    """

    requests_per_second: float = 10.0
    burst: int = 10
    attempts: int = 6
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    request_timeout_s: float = 320.0
    deadline_s: float = 1800.0
    window_bytes: int = WINDOW_BYTES
    floor_pixels: int = FLOOR_PIXELS

    def delay_s(self, attempt: int, asked_s: float | None = None) -> float:
        """How long to wait after failed attempt ``attempt`` (from 1): what the server asked for, or more.

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


class FairGate:
    """Lets ``limit`` holders in; those who wait are let in by turns of their key.

    So a scene whose windows were split a hundred times holds up no other.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[threading.Event]] = {}

    @contextmanager
    def slot(self, key: str) -> Iterator[None]:
        """A place for one request of ``key``, held for the block."""
        self._enter(key)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, key: str) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Event()
            self._waiting.setdefault(key, deque()).append(turn)
        turn.wait()

    def _leave(self) -> None:
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            # The key that has waited longest since its last turn stands first.
            key = next(iter(self._waiting))
            queue = self._waiting.pop(key)
            queue.popleft().set()
            if queue:
                self._waiting[key] = queue
