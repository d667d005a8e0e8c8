"""Parts of objects, from every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from pc_cloudmask.errors import StoreRefused
from pc_cloudmask.storage.store import ObjectPart, ObjectStore
from pc_cloudmask.storage.stores import HttpStore
from tests.doubles.range_server import RangeServer
from tests.storage.test_store_contract import open_empty, store

__all__ = ["open_empty", "store"]
BODY = bytes(range(256)) * 4


def test_a_part_is_what_lies_there(store: ObjectStore) -> None:
    store.write_object("a/b.tif", BODY, "image/tiff")
    assert store.read_part("a/b.tif", 0, 16) == ObjectPart(BODY[:16], 1024)
    assert store.read_part("a/b.tif", 300, 1) == ObjectPart(BODY[300:301], 1024)
    assert store.read_part("a/b.tif", 1000, 100) == ObjectPart(BODY[1000:], 1024)
    assert store.read_part("a/b.tif", 1024, 100) == ObjectPart(b"", 1024)
    assert store.read_part("a/c.tif", 0, 16) is None
    with pytest.raises(StoreRefused):
        store.read_part("../b.tif", 0, 16)


def test_a_web_server_gives_parts_too(tmp_path: Path) -> None:
    (tmp_path / "b.tif").write_bytes(BODY)
    with RangeServer(tmp_path) as server:
        web = HttpStore(server.url)
        assert web.read_part("b.tif", 300, 16) == ObjectPart(BODY[300:316], 1024)
        assert web.read_part("b.tif", 1000, 100) == ObjectPart(BODY[1000:], 1024)
        assert web.read_part("c.tif", 0, 16) is None
