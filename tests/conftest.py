"""Fixtures that every folder of tests may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real items, a real chip, extension schemas; they stand beside the checkout, not in it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the reference data is not beside this checkout")
    return SHARED_DATA
