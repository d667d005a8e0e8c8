"""Sessions of the engine on the local server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pc_cloudmask.masking.earth_engine.pacing import Limits
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from tests.doubles.earth_engine.server import LocalEarthEngine

QUICK: dict[str, Any] = {
    "requests_per_second": 10_000.0,
    "burst": 1000,
    "attempts": 4,
    "first_delay_s": 0.002,
    "longest_delay_s": 0.01,
    "request_timeout_s": 30.0,
    "deadline_s": 600.0,
}
"""No test waits for the real service's sake."""


@contextmanager
def run_session(engine: LocalEarthEngine, in_flight: int = 8, **limits: Any) -> Iterator[EarthEngineSession]:
    """A session on ``engine`` with limits of the test's own."""
    session = EarthEngineSession("p", engine.url, "anonymous", in_flight, Limits(**{**QUICK, **limits}))
    try:
        yield session
    finally:
        session.close()
