"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.doubles.s3_server import s3_server
from tests.offline_validator import OfflineValidator
from tests.published_demo import published_demo

__all__ = ["published_demo", "s3_server"]

# A slow machine is no failure, and CI tries the same examples every time.
hypothesis.settings.register_profile(
    "default", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("default"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real items, a real chip, extension schemas; they stand beside the checkout, not in it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the reference data is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def stac_validator() -> OfflineValidator:
    """Validates any STAC document without a network."""
    return OfflineValidator(SHARED_DATA / "stac-schemas")


FIGURES: list[str] = []


@pytest.fixture
def figures() -> list[str]:
    """Lines that the tests' report ends with: what was measured, never asserted."""
    return FIGURES


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process among several hands its lines to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = FIGURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    FIGURES.extend(node.workeroutput.get("figures", []) if hasattr(node, "workeroutput") else [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)
