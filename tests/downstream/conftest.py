"""The demo's catalog as other people's tools meet it: by its files alone."""

from __future__ import annotations

from pathlib import Path

import pystac
import pytest

from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.mirror import rebuild_mirror
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.settings import read_clock
from pc_cloudmask.storage.stores import open_store
from tests.published_demo import copy_catalog


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings that these tools raise within themselves."""
    for item in items:
        if "/tests/downstream/" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform"))
            item.add_marker(pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"))


@pytest.fixture(scope="session")
def mirrored_demo(published_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog like the demo's with its geoparquet mirror."""
    root = copy_catalog(published_demo, tmp_path_factory.mktemp("mirrored-demo"))
    store = open_store(str(root))
    rebuild_mirror(store, Publisher(store, CatalogContext(), read_clock()))
    return root


@pytest.fixture(scope="session")
def brazil(published_demo: Path) -> list[pystac.Item]:
    """The items of 22KFV, read by pystac from the root on."""
    catalog = pystac.Catalog.from_file(str(published_demo / "catalog.json"))
    items = [item for item in catalog.get_items(recursive=True) if item.properties["s2:mgrs_tile"] == "22KFV"]
    assert len(items) == 3
    return items


@pytest.fixture(scope="session")
def mask_path(published_demo: Path) -> Path:
    """A published mask: 22KFV in December, with clouds, shadows and an edge of the swath."""
    (path,) = (path for path in published_demo.rglob("cloudmask-*.tif") if "20181214" in str(path))
    return path
