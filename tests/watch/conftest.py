"""Fixtures of the tests of ``watch``."""

from tests.earth_engine.conftest import earth_engine

__all__ = ["earth_engine"]
