"""Requests to Earth Engine: who asks, how fast, how often again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

import ee

from flows.adapters.earth_engine.credentials import check_account, find_credentials
from flows.adapters.earth_engine.failures import CLIENT_FAILURES, Failure, Remedy, classify_failure
from flows.adapters.earth_engine.pacing import (
    CONCURRENT_REQUESTS,
    REQUESTS_PER_WORKER,
    FairGate,
    Limits,
    TokenBucket,
)
from flows.adapters.earth_engine.statistics import TransferStatistics
from flows.adapters.earth_engine.transport import BoundedHttp
from flows.adapters.http_retry import Deadline
from flows.errors import EngineUnavailable

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
