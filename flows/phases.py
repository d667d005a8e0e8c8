"""What a run is doing: its id, the item, the phase of that item's work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum

run_id: ContextVar[str] = ContextVar("run_id", default="")
item_id: ContextVar[str] = ContextVar("item_id", default="")
phase_name: ContextVar[str] = ContextVar("phase_name", default="")


class Phase(StrEnum):
    """Parts of the work on one scene."""

    DERIVE = "derive"
    ENCODE = "encode"
    PUBLISH = "publish"


class PhaseClock:
    """Seconds that each phase of one item's work took."""

    def __init__(self, item: str) -> None:
        self._item = item
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Measure what is done inside; the log says what it belongs to."""
        tokens = (item_id.set(self._item), phase_name.set(phase))
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started
            item_id.reset(tokens[0])
            phase_name.reset(tokens[1])
