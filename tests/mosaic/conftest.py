"""What tests of mosaics share."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings that odc-geo and shapely raise within themselves."""
    for item in items:
        if "/tests/mosaic/" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform"))
            item.add_marker(pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"))


@pytest.fixture(autouse=True)
def _fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("CLOUDMASK_STORE", "CLOUDMASK_PUBLIC_URL", "CLOUDMASK_STAC_API_URL"):
        monkeypatch.delenv(name, raising=False)
