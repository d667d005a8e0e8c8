"""Requests to Earth Engine: who asks, how fast, how often again."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import ee

from pc_cloudmask.errors import EngineUnavailable
from pc_cloudmask.masking.earth_engine.credentials import check_account, find_credentials
from pc_cloudmask.masking.earth_engine.transport import (
    CLIENT_FAILURES,
    BoundedHttp,
    Failure,
    Remedy,
    classify_failure,
)
from pc_cloudmask.masking.earth_engine.windows import FLOOR_PIXELS, WINDOW_BYTES
from pc_cloudmask.web import Deadline

#: For ``processing:software`` of every mask that Earth Engine had a part in.
SOFTWARE: Mapping[str, str] = {"earthengine-api": ee.__version__}
#: Earth Engine's default for a project; more are answered with 429.
CONCURRENT_REQUESTS = 40
#: A scene's windows that are under way at a time when every worker has one: computing overlaps receiving.
REQUESTS_PER_WORKER = 2


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


@dataclass(frozen=True, slots=True)
class Transfer:
    """The counters at one moment.

    ``requests`` counts every one sent, ``retries`` those sent again after a failure, ``splits``
    windows that were too much and went on in four. ``bytes`` are of pixels, uncompressed.
    ``seconds`` are by phase, summed over threads: with four scenes at a time, four pass in one.
    """

    requests: int = 0
    retries: int = 0
    splits: int = 0
    bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict, hash=False)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values for a report."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "splits": self.splits,
            "bytes": self.bytes,
            "seconds": {phase: round(seconds, 3) for phase, seconds in sorted(self.seconds.items())},
        }


class TransferStatistics:
    """Counts from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._retries = self._splits = self._bytes = 0
        self._seconds: dict[str, float] = {}

    def count_request(self) -> None:
        """One more request sent."""
        with self._lock:
            self._requests += 1

    def count_retry(self) -> None:
        """One more request that will be sent again."""
        with self._lock:
            self._retries += 1

    def count_split(self) -> None:
        """One more window that goes on in parts."""
        with self._lock:
            self._splits += 1

    def count_bytes(self, count: int) -> None:
        """``count`` more bytes of pixels received."""
        with self._lock:
            self._bytes += count

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the wall time of the block to the phase ``name``."""
        started = time.monotonic()
        try:
            yield
        finally:
            passed = time.monotonic() - started
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + passed

    def snapshot(self) -> Transfer:
        """The counters now."""
        with self._lock:
            return Transfer(self._requests, self._retries, self._splits, self._bytes, dict(self._seconds))


logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class TooMuch(Exception):
    """Earth Engine cannot compute this much at a time; a part of it may do."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class EarthEngineSession:
    """One project at one endpoint; made by ``open_session``.

    The ``ee`` client keeps its state for the whole process, so the session that was used last owns it:
    sessions may follow each other, yet two must not be used at the same time.
    """

    _owner: ClassVar[EarthEngineSession | None] = None
    _ownership: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, project: str, url: str, credentials: str, in_flight: int, limits: Limits) -> None:
        self.project = project
        self.url = url
        self.limits = limits
        self.in_flight = in_flight
        self.statistics = TransferStatistics()
        self._credentials = credentials
        self._transport = BoundedHttp(limits.request_timeout_s, in_flight)
        self._gate = FairGate(in_flight)
        self._bucket = TokenBucket(limits.requests_per_second, limits.burst)

    @property
    def restricted(self) -> bool:
        """Whether Earth Engine said that the project's quota is used up and it is slowed down."""
        return self._transport.restricted

    def start(self) -> None:
        """Sign in and learn the API's functions, once; every request does so by itself.

        Raises:
            SettingsError: no credentials.
            EngineRefused: project or credentials are not accepted.
            EngineUnavailable: no answer.
        """
        if EarthEngineSession._owner is self:
            return
        with EarthEngineSession._ownership:
            if EarthEngineSession._owner is self:
                return
            EarthEngineSession._owner = None

            def initialise() -> None:
                credentials = find_credentials(self._credentials)
                ee.Reset()
                # Tried again here, where it is counted and bounded.
                ee.data.setMaxRetries(0)
                with _no_list_of_deprecated_assets():
                    ee.Initialize(
                        credentials, url=self.url, project=self.project, http_transport=self._transport
                    )

            with self.statistics.phase("start"):
                try:
                    self._repeat("Earth Engine", initialise, Deadline(self.limits.deadline_s), "")
                except TooMuch as error:  # pragma: no cover - nothing is computed yet
                    raise EngineUnavailable(f"Earth Engine: {error}") from error
            EarthEngineSession._owner = self

    def call(self, what: str, function: Callable[[], Answer], deadline: Deadline, key: str) -> Answer:
        """What ``function``, one request, returns; tried again while that can help.

        ``what`` names the request in errors; requests of one ``key`` take turns with those of others.

        Raises:
            TooMuch: a smaller request may succeed.
            EngineRefused: this request never will.
            EngineUnavailable: attempts or time are used up.
        """
        self.start()

        def counted() -> Answer:
            self.statistics.count_request()
            return function()

        return self._repeat(what, counted, deadline, key)

    def close(self) -> None:
        """Close the connections; a session that is used again opens new ones."""
        self._transport.close()

    def _repeat(self, what: str, function: Callable[[], Answer], deadline: Deadline, key: str) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            try:
                with self._gate.slot(key):
                    self._bucket.take()
                    if deadline.remaining_s() <= 0:
                        # Parts of a split window, or the wait for a place, may have used up the time.
                        raise EngineUnavailable(f"{what}: not begun within {deadline.seconds:g} s")
                    return function()
            except CLIENT_FAILURES as error:
                failure = classify_failure(error, self.project)
                delay_s = self._delay_s(failure, attempt, deadline, what, error)
            self.statistics.count_retry()
            logger.info("%s: %s; attempt %d follows in %.1f s", what, failure.text, attempt + 1, delay_s)
            time.sleep(delay_s)

    def _delay_s(
        self, failure: Failure, attempt: int, deadline: Deadline, what: str, error: Exception
    ) -> float:
        """Seconds until the next attempt; raises what ends the request where there is none."""
        if failure.remedy is Remedy.SPLIT:
            raise TooMuch(failure) from error
        if failure.remedy is Remedy.NONE:
            raise failure.error_class(f"{what}: {failure.text}") from error
        delay_s = self.limits.delay_s(attempt, failure.retry_after_s)
        if attempt >= self.limits.attempts or delay_s >= deadline.remaining_s():
            raise failure.error_class(f"{what}: {failure.text}; gave up after {attempt} attempts") from error
        if failure.throttled:
            # Only for a wait within the deadline: a server that asks for an hour would hold everybody.
            self._bucket.pause(delay_s)
        return delay_s


def open_session(
    project: str | None, url: str, credentials: str, workers: int, limits: Limits | None = None
) -> EarthEngineSession:
    """A session for ``workers`` scenes at a time. Nothing is sent before its first request.

    ``credentials``: ``default``, a service account's key file, or ``anonymous`` on loopback.

    Raises:
        SettingsError: no project, a key file that is none, ``anonymous`` beyond this machine.
    """
    in_flight = min(workers * REQUESTS_PER_WORKER, CONCURRENT_REQUESTS)
    return EarthEngineSession(
        check_account(project, url, credentials), url, credentials, in_flight, limits or Limits()
    )


@contextmanager
def _no_list_of_deprecated_assets() -> Iterator[None]:
    """Keep ``ee.Initialize`` from asking a further host, without a time-out, for a list of no use here."""
    fetch = ee.deprecation.InitializeDeprecatedAssets
    ee.deprecation.InitializeDeprecatedAssets = lambda: None
    try:
        yield
    finally:
        ee.deprecation.InitializeDeprecatedAssets = fetch
