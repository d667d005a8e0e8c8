"""A HEAD that says 404, where a listing and a GET show the object, proves nothing."""

from __future__ import annotations

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.layout import tile_catalog_key, zone_catalog_key
from pc_cloudmask.storage.store import ObjectInfo
from tests.catalog.publications import CONTEXT, NOW, walk_catalog
from tests.catalog.test_check_doubt import LEAF, fill
from tests.doubles.memory_store import MemoryStore

ENDS = {
    "year": LEAF.catalog,
    "tile": tile_catalog_key(LEAF.tile),
    "zone": zone_catalog_key(LEAF.zone),
    "collection": "collection.json",
    "every": ".json",
}


class HeadlessStore(MemoryStore):
    """``denied`` is the end of keys that a HEAD does not find."""

    denied = "?"

    def find_object(self, key: str) -> ObjectInfo | None:
        return None if key.endswith(self.denied) else super().find_object(key)


@pytest.mark.parametrize("name", ENDS)
def test_no_link_is_lost(name: str) -> None:
    store = HeadlessStore()
    fill(store)
    before = set(walk_catalog(store).items)
    store.denied = ENDS[name]
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert report.unread > 0 or name == "year"  # which no HEAD is asked for
    store.denied = "?"
    assert set(walk_catalog(store).items) == before
