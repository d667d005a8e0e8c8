"""What the mirror says of items is used where it is proven, and nowhere else."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import orjson
import pytest

from pc_cloudmask.catalog import search
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.layout import MARK_KEY
from pc_cloudmask.catalog.mirror import rebuild_mirror
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.search import ItemChoice
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.settings import read_clock
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import StoredObject
from pc_cloudmask.viewing.clear import measure_scenes
from pc_cloudmask.viewing.library import ListedItem, list_items
from tests.published_demo import copy_catalog

pytestmark = pytest.mark.slow

EVERYTHING = ItemChoice(SceneQuery())
FIELD = '{"type": "Polygon", "coordinates": [[[-49.99, -22.65], [-49.92, -22.65], [-49.92, -22.7], [-49.99, -22.65]]]}'


class Noted(LocalStore):
    """A folder that counts the items that are read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.items: Counter[str] = Counter()

    def read_object(self, key: str) -> StoredObject | None:
        if key.rpartition("/")[2].startswith("S2"):
            self.items[key.rpartition("/")[2].removesuffix(".json")] += 1
        return super().read_object(key)


@pytest.fixture
def store(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Noted:
    """The demo's catalog, published an hour ago, with a mirror."""
    monkeypatch.setattr(search, "LEAST_ITEMS", 1)
    root = copy_catalog(out, tmp_path / "out")
    for path in root.rglob("*.json"):
        age(path, 3600)
    rebuild(root)
    return Noted(root)


def age(path: Path, seconds: int) -> None:
    moment = path.stat().st_mtime_ns - seconds * 10**9
    os.utime(path, ns=(moment, moment))


def rebuild(root: Path) -> None:
    store = LocalStore(root)
    rebuild_mirror(store, Publisher(store, CatalogContext(), read_clock()))


def find_item(store: LocalStore, item_id: str) -> Path:
    (path,) = (store.root / "sentinel-2-l2a-cloudmask").rglob(f"{item_id}.json")
    return path


def list_plainly(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> list[ListedItem]:
    with monkeypatch.context() as patch:
        patch.setattr(search, "LEAST_ITEMS", 10**9)
        return list_items(LocalStore(store.root), EVERYTHING)


def test_proven_rows_say_what_the_items_say(store: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list_plainly(store, monkeypatch)
    assert list_items(store, EVERYTHING) == expected
    assert not store.items
    choices = (
        ItemChoice(SceneQuery(tiles=("22KFV",), datetime="2018-09/2018-12")), ItemChoice(SceneQuery(), 30.0),
        ItemChoice(SceneQuery(), methods=("csmask",)), ItemChoice(SceneQuery(bbox=(12, 48, 13, 49))),
        ItemChoice(SceneQuery(), provisional=True),
    )  # fmt: skip
    for choice in choices:
        with monkeypatch.context() as patch:
            patch.setattr(search, "LEAST_ITEMS", 10**9)
            plain = list_items(LocalStore(store.root), choice)
        assert list_items(store, choice) == plain
    assert not store.items
    area = ItemChoice(build_query(intersects=FIELD))
    assert len(measure_scenes(store, area).scenes) == 3
    assert not store.items


def test_what_was_published_since_is_read(store: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    item_id = list_items(store, EVERYTHING)[0].id
    path = find_item(store, item_id)
    document = orjson.loads(path.read_bytes())
    document["properties"] |= {"cloudmask:method": "csmask", "cloudmask:provisional": True}
    store.write_object(str(path.relative_to(store.root)), orjson.dumps(document), "application/geo+json")
    listed = list_items(store, EVERYTHING)
    assert store.items == {item_id: 1}
    assert listed[0].method == "csmask"
    assert listed == list_plainly(store, monkeypatch)
    assert [each.id for each in list_items(store, ItemChoice(SceneQuery(), methods=("csmask",)))] == [item_id]


def test_what_there_is_the_catalogs_say(store: Noted) -> None:
    """An item that no catalog links is none, one that the mirror lacks is one."""
    listed = list_items(store, EVERYTHING)
    year = find_item(store, listed[0].id).parents[1] / "catalog.json"
    document = orjson.loads(year.read_bytes())
    document["links"] = [link for link in document["links"] if listed[0].id not in link["href"]]
    full = year.read_bytes()
    year.write_bytes(orjson.dumps(document))
    assert list_items(store, EVERYTHING) == listed[1:]
    year.write_bytes(orjson.dumps(document))
    rebuild(store.root)
    (item,) = (find_item(store, listed[0].id),)
    year.write_bytes(full)
    assert item.is_file()
    store.items.clear()
    assert list_items(store, EVERYTHING) == listed


@pytest.mark.parametrize("fault", ["no mark", "later mark", "file gone", "file broken", "not listed"])
def test_a_mirror_that_proves_nothing_is_not_used(
    store: Noted, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    mark = store.root / MARK_KEY
    (table,) = mark.parent.glob("items/items-*.parquet")
    if fault == "no mark":
        mark.unlink()
    elif fault == "later mark":  # a rebuild that died
        age(mark, -3600)
    elif fault == "file gone":
        table.unlink()
    elif fault == "file broken":
        table.write_bytes(b"PAR1")
    else:
        (store.root / "sentinel-2-l2a-cloudmask" / "collection.json").write_bytes(
            (store.root / "sentinel-2-l2a-cloudmask" / "collection.json")
            .read_bytes()
            .replace(b"items-", b"other-")
        )
    assert list_items(store, EVERYTHING) == list_plainly(store, monkeypatch)
    assert len(store.items) == 6


def test_items_of_the_marks_own_moment_are_read(store: Noted) -> None:
    item_id = list_items(store, EVERYTHING)[0].id
    moment = (store.root / MARK_KEY).stat().st_mtime_ns
    os.utime(find_item(store, item_id), ns=(moment, moment))
    list_items(store, EVERYTHING)
    assert store.items == {item_id: 1}


def test_a_rebuild_takes_the_mark_of_another_away(store: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Publisher.publish_collection

    def publish_late(publisher: Publisher) -> None:
        publish(publisher)
        age(store.root / MARK_KEY, -60)

    monkeypatch.setattr(Publisher, "publish_collection", publish_late)
    rebuild(store.root)
    assert not (store.root / MARK_KEY).exists()
    assert len(list_items(store, EVERYTHING)) == 6
    assert len(store.items) == 6
