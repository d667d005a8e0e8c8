"""Counters of what was exchanged with Earth Engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


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
