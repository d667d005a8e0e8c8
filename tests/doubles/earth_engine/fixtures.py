"""The local Earth Engine, and an ``ee`` client that talks to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ee
import pytest
from google.auth.credentials import AnonymousCredentials

from tests.doubles.earth_engine.server import LocalEarthEngine


@contextmanager
def running_earth_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEarthEngine]:
    """Run a server with empty collections; clear the client's state afterwards."""
    with LocalEarthEngine() as engine:
        # The client's only other host: it looks up deprecated assets there whenever it is initialised.
        monkeypatch.setattr(
            "ee.deprecation._DEPRECATED_ASSETS_URL", f"{engine.url}/{ee.deprecation._DEPRECATED_OBJECT}"
        )
        yield engine
        reset_client()


def initialise_client(earth_engine: LocalEarthEngine) -> Any:
    """Return the ``ee`` module, initialised on the server."""
    ee.Initialize(credentials=AnonymousCredentials(), project="p", url=earth_engine.url)
    earth_engine.requests.clear()
    return ee


def reset_client() -> None:
    """Forget the client's server. ``ee.Reset`` leaves its connections open, which would warn as errors."""
    session = ee._state.get_state().requests_session
    if session is not None:
        session.close()
    ee.Reset()
