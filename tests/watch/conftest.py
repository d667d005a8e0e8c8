"""Fixtures of the tests of ``watch``."""

from tests.doubles.earth_engine.fixtures import earth_engine

__all__ = ["earth_engine"]
