"""The local Earth Engine, and an ``ee`` client that talks to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import pytest
from google.auth.credentials import AnonymousCredentials

from tests.earth_engine.local.server import LocalEarthEngine


@pytest.fixture
def earth_engine() -> Iterator[LocalEarthEngine]:
    """A running server with empty collections; the client's state is cleared after the test."""
    with LocalEarthEngine() as engine:
        yield engine
        reset_client()


@pytest.fixture
def client(earth_engine: LocalEarthEngine) -> Any:
    """The ``ee`` module, initialised on the server."""
    ee.Initialize(credentials=AnonymousCredentials(), project="p", url=earth_engine.url)
    earth_engine.requests.clear()
    return ee


def reset_client() -> None:
    """Forget the client's server. ``ee.Reset`` leaves its connections open, which would warn as errors."""
    session = ee._state.get_state().requests_session
    if session is not None:
        session.close()
    ee.Reset()
