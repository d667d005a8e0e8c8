"""Published items by walking only the catalogs concerned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pc_cloudmask.catalog.layout import COLLECTION_ID
from pc_cloudmask.catalog.search import find_published_items
from pc_cloudmask.errors import SettingsError, SourceRefused
from pc_cloudmask.scene.query import build_query
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectInfo, StoredObject
from tests.sample_archive import BAVARIA, BRAZIL


class CountingReader:
    """A store's reading half that remembers what was read."""

    def __init__(self, root: Path) -> None:
        self._store = LocalStore(root)
        self.read: list[str] = []

    @property
    def url(self) -> str:
        return self._store.url

    def read_object(self, key: str) -> StoredObject | None:
        self.read.append(key.removeprefix(f"{COLLECTION_ID}/"))
        return self._store.read_object(key)

    def find_object(self, key: str) -> ObjectInfo | None:
        return self._store.find_object(key)


def find(root: Path, max_cloud_pct: float | None = None, **criteria: object) -> list[str]:
    query = build_query(**criteria)  # type: ignore[arg-type]
    return [found.keys.item_id for found in find_published_items(LocalStore(root), query, max_cloud_pct)]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, BRAZIL + BAVARIA),
        ({"tiles": ["33UUP", "22KFV"]}, BRAZIL + BAVARIA),
        ({"tiles": ["33UUP"]}, BAVARIA),
        ({"tiles": ["34HCH"]}, []),
        ({"tiles": ["34HCH", "22KFV"]}, BRAZIL),
        ({"bbox": "-50,-22.7,-49.9,-22.65"}, BRAZIL),
        ({"bbox": "12.3,48.6,12.4,48.7"}, BAVARIA),
        ({"bbox": "-49.0,-23.4,-48.96,-23.0"}, []),  # within the tile, not the sample's window
        ({"bbox": "179,-23,-40,-22"}, BRAZIL),  # across the antimeridian, all the way to Brazil
        ({"bbox": "12.3,48.6,12.4,48.7", "tiles": ["22KFV"]}, []),
        ({"datetime": "2018-12"}, BRAZIL[2:]),
        ({"datetime": "2018-06-18/2021-09-10"}, [*BRAZIL[1:], BAVARIA[0]]),
        ({"datetime": "2021-09-10T10:10:31Z/.."}, BAVARIA),
        ({"datetime": "2021-09-10T10:10:32Z/.."}, BAVARIA[1:]),
        ({"ids": [BAVARIA[2], "absent"]}, BAVARIA[2:]),
        ({"max_cloud_pct": 25.0}, [BRAZIL[1], BAVARIA[1]]),
        ({"max_cloud_pct": 1.0}, []),
    ],
)
def test_what_matches_is_found(
    published_demo: Path, criteria: dict[str, object], expected: list[str]
) -> None:
    assert find(published_demo, **criteria) == expected  # type: ignore[arg-type]


def test_an_item_taken_after_the_midnight_of_its_datatake_is_found(
    published_demo: Path, tmp_path: Path
) -> None:
    shutil.copytree(published_demo / COLLECTION_ID, tmp_path / COLLECTION_ID)
    (path,) = (tmp_path / COLLECTION_ID).rglob(f"{BRAZIL[2]}.json")
    item = json.loads(path.read_bytes())
    item["properties"]["datetime"] = "2018-12-15T00:00:03Z"
    path.write_text(json.dumps(item))
    assert find(tmp_path, tiles=["22KFV"], datetime="2018-12-15") == BRAZIL[2:]
    assert find(tmp_path, tiles=["22KFV"], datetime="2018-12-14") == []
    assert find(tmp_path, tiles=["22KFV"], datetime="0001/2018-12-15T12:00:00Z") == BRAZIL


def test_a_scene_with_just_as_much_cloud_as_may_be_is_found(published_demo: Path, tmp_path: Path) -> None:
    shutil.copytree(published_demo / COLLECTION_ID, tmp_path / COLLECTION_ID)
    (path,) = (tmp_path / COLLECTION_ID).rglob(f"{BRAZIL[0]}.json")
    item = json.loads(path.read_bytes())
    item["properties"]["cloudmask:clear_percentage"] = 80.1  # 100 - 80.1 is a little more than 19.9
    path.write_text(json.dumps(item))
    assert find(tmp_path, ids=[BRAZIL[0]], max_cloud_pct=19.9) == BRAZIL[:1]
    assert find(tmp_path, ids=[BRAZIL[0]], max_cloud_pct=19.89) == []


def test_only_the_catalogs_concerned_are_read(published_demo: Path) -> None:
    reader = CountingReader(published_demo)
    find_published_items(reader, build_query(tiles=["22KFV"], datetime="2018-12"))
    item = f"22K/22KFV/2018/{BRAZIL[2]}/{BRAZIL[2]}.json"
    assert reader.read == ["22K/22KFV/catalog.json", "22K/22KFV/2018/catalog.json", item]

    reader = CountingReader(published_demo)
    find_published_items(reader, build_query(tiles=["22KFV"], datetime="2018-06"))
    assert not [key for key in reader.read if key.endswith(f"{BRAZIL[2]}.json")]

    reader = CountingReader(published_demo)
    find_published_items(reader, build_query(ids=[BRAZIL[0]]))
    assert [key for key in reader.read if "S2" in key] == [f"22K/22KFV/2018/{BRAZIL[0]}/{BRAZIL[0]}.json"]

    reader = CountingReader(published_demo)
    find_published_items(reader, build_query(bbox="12.3,48.6,12.4,48.7", datetime="2021"))
    assert not [key for key in reader.read if key.startswith("22K")]
    assert not [key for key in reader.read if "/2022/" in key]
    assert len(reader.read) == 5


def test_an_item_whose_title_tells_no_day_is_found_by_its_own_date(
    published_demo: Path, tmp_path: Path
) -> None:
    shutil.copytree(published_demo / COLLECTION_ID, tmp_path / COLLECTION_ID)
    year_keys = tmp_path / COLLECTION_ID / "22K/22KFV/2018/catalog.json"
    document = json.loads(year_keys.read_bytes())
    for link in document["links"]:
        link.pop("title")
    year_keys.write_text(json.dumps(document))
    assert find(tmp_path, datetime="2018-12") == BRAZIL[2:]


def test_a_store_without_a_catalog_is_named(tmp_path: Path) -> None:
    for criteria in ({}, {"tiles": ["22KFV"]}):
        with pytest.raises(SettingsError, match="holds no catalog"):
            find(tmp_path, **criteria)  # type: ignore[arg-type]


def test_a_linked_item_that_is_missing_or_broken_is_named(published_demo: Path, tmp_path: Path) -> None:
    shutil.copytree(published_demo / COLLECTION_ID, tmp_path / COLLECTION_ID)
    (item,) = (tmp_path / COLLECTION_ID).rglob(f"{BRAZIL[0]}.json")
    item.write_bytes(b"{")
    with pytest.raises(SourceRefused, match=f"{BRAZIL[0]}.*check --repair"):
        find(tmp_path, tiles=["22KFV"])
    item.unlink()
    with pytest.raises(SourceRefused, match=f"{BRAZIL[0]}.*missing"):
        find(tmp_path, tiles=["22KFV"])
    assert find(tmp_path, tiles=["22KFV"], datetime="2018-12") == BRAZIL[2:]
