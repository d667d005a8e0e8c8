"""What someone has changed by hand: fields of items and of the collection, marks, markers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.io import MemoryFile

from pc_cloudmask.catalog.check import REMOVAL_LIMIT, CheckOptions, check_catalog
from pc_cloudmask.catalog.documents import build_year_catalog
from pc_cloudmask.catalog.fields import encode_document
from pc_cloudmask.catalog.findings import Problem
from pc_cloudmask.catalog.layout import COLLECTION_KEY, changes_key
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import CLOCK_TOLERANCE, LEASE, list_states, run_steps
from pc_cloudmask.catalog.versions import withdraw_steps
from pc_cloudmask.catalog.walk import list_year, superseded_name
from pc_cloudmask.storage.local import LocalStore
from tests.catalog.publications import (
    CONTEXT,
    NOW,
    build_publication,
    find_checksums,
    fold_feed,
    keys_of,
    list_markers,
    product_id,
    public_bytes,
    read_feed,
    walk_catalog,
)
from tests.catalog.test_check import check, problems, publish, repair
from tests.catalog.test_crashes import DyingStore, Killed
from tests.doubles.memory_store import MemoryStore
from tests.published_demo import copy_catalog

FIRST, OTHER = product_id(0), product_id(1)
OLDER, NEWER = product_id(2), product_id(2, made="20210101T000000")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(modified=LONG_AGO)
    publish(store, FIRST, OTHER, OLDER)
    publish(store, NEWER)
    store.modified = NOW
    return store


def change_item(store: MemoryStore, change: Callable[[dict[str, Any]], object], item_id: str = FIRST) -> None:
    item = json.loads(store.objects[keys_of(item_id).item])
    change(item)
    store.objects[keys_of(item_id).item] = encode_document(item)


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "percentage": lambda item: item["properties"].update({"cloudmask:cloud_percentage": 99.0}),
    "negative": lambda item: item["properties"].update(
        {"cloudmask:cloud_percentage": -1.0, "cloudmask:clear_percentage": 101.0}
    ),
    "no share": lambda item: item["properties"].pop("cloudmask:shadow_percentage"),
    "no nodata": lambda item: item["properties"].pop("cloudmask:nodata_percentage"),
    "year": lambda item: item["properties"].update({"datetime": "2028-01-01T13:32:19Z"}),
    "no datetime": lambda item: item["properties"].pop("datetime"),
    "tile": lambda item: item["properties"].update({"s2:mgrs_tile": "33UUP"}),
    "no geometry": lambda item: item.pop("geometry"),
    "null geometry": lambda item: item.update(geometry=None),
    "no bbox": lambda item: item.pop("bbox"),
    "host": lambda item: item["assets"]["cloudmask"].update(href="https://example.com/cloudmask.tif"),
    "other folder": lambda item: item["assets"]["cloudmask"].update(
        href=f"../{OTHER}/{build_publication(OTHER).files[0].key.rpartition('/')[2]}"
    ),
    "other file": lambda item: item["assets"]["cloudmask"].update(
        item["assets"]["cloudmask-preview"], href=item["assets"]["cloudmask"]["href"]
    ),
    "no checksum": lambda item: item["assets"]["cloudmask"].pop("file:checksum"),
    "other checksum": lambda item: item["assets"]["cloudmask"].update({"file:checksum": "1114" + "0" * 40}),
    "no size": lambda item: item["assets"]["cloudmask"].pop("file:size"),
    "preview": lambda item: item["assets"]["cloudmask-preview"].update(href="https://example.com/x.png"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIES)
def test_what_publishing_never_writes_is_found(store: MemoryStore, name: str) -> None:
    change_item(store, LIES[name])
    found = problems(check(store))
    assert (Problem.BROKEN_ITEM, keys_of(FIRST).item) in found
    assert all(key.startswith(keys_of(FIRST).prefix) for _, key in found)
    assert repair(store).unlinked == 1
    assert set(walk_catalog(store).items) == {OTHER, OLDER, NEWER}


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].update({"datetime": "2018-06-01T13:32:19Z"}),
        lambda item: item.update(bbox=[-10.0, -5.0, 10.0, 5.0]),
        lambda item: item.update(bbox=[-180.0, -90.0, 180.0, 90.0]),
        lambda item: item.update(bbox=[10.0, -24.0, -10.0, -22.0]),
        lambda item: item.update(bbox=[-50.0, -23.0, -49.9, -22.9]),
        lambda item: item["geometry"].update(coordinates=[[[0, 0], [1, 0], [1, 1], [0, 0]]]),
    ],
)
def test_a_source_that_contradicts_itself_is_named_and_left_alone(
    store: MemoryStore, change: Callable[[dict[str, Any]], object]
) -> None:
    """It may have come so: taking it out would only have it published again."""
    change_item(store, change)
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert (Problem.DOUBTFUL_SOURCE, keys_of(FIRST).item) in problems(report)
    assert {each.problem for each in report.left_findings or report.findings} == {Problem.DOUBTFUL_SOURCE}
    assert not report.is_whole
    assert FIRST in walk_catalog(store).items


@pytest.fixture
def demo(published_demo: Path, tmp_path: Path) -> LocalStore:
    return LocalStore(copy_catalog(published_demo, tmp_path / "out"))


@pytest.mark.slow
def test_a_deep_check_counts_the_pixels(demo: LocalStore) -> None:
    deep = CheckOptions(deep=True)
    now = datetime.now(UTC)
    assert check_catalog(demo, CONTEXT, repair=False, now=now, options=deep).findings == ()
    path = next(demo.root.glob("*/22K/22KFV/2018/*/S2B*.json"))
    item = json.loads(path.read_text())
    item["properties"]["cloudmask:cloud_percentage"] += 1
    item["properties"]["cloudmask:clear_percentage"] -= 1
    path.write_bytes(encode_document(item))
    shallow = check_catalog(demo, CONTEXT, repair=False, now=now)
    assert Problem.BROKEN_ITEM not in {each.problem for each in shallow.findings}
    report = check_catalog(demo, CONTEXT, repair=False, now=now, options=deep)
    details = [each.detail for each in report.findings if each.problem is Problem.BROKEN_ITEM]
    assert any("cloudmask:cloud_percentage" in detail for detail in details)


@pytest.mark.slow
def test_a_deep_check_names_a_mask_that_is_no_cog_and_leaves_it(demo: LocalStore) -> None:
    path = next(demo.root.glob("*/22K/22KFV/2018/*/S2B*.json"))
    item = json.loads(path.read_text())
    mask = path.parent / item["assets"]["cloudmask"]["href"]
    with rasterio.open(mask) as source, MemoryFile() as memory:
        with memory.open(**{**source.profile, "driver": "GTiff", "tiled": False, "blockysize": 1}) as target:
            target.write(source.read())
        body = memory.read()
    digest = sha256(body).hexdigest()
    plain = mask.with_name(f"cloudmask-{digest[:16]}.tif")
    plain.write_bytes(body)
    item["assets"]["cloudmask"] |= {
        "href": f"./{plain.name}",
        "file:size": len(body),
        "file:checksum": f"1220{digest}",
    }
    path.write_bytes(encode_document(item))
    for repaired in (False, True):
        options = CheckOptions(deep=True)
        report = check_catalog(demo, CONTEXT, repair=repaired, now=datetime.now(UTC), options=options)
        assert [each.problem for each in report.findings] == [Problem.NOT_OPTIMIZED]
        assert "is not a cloud-optimised GeoTIFF" in report.findings[0].detail
        assert not report.is_whole
    assert path.read_bytes() == encode_document(item)


def test_an_extent_that_has_grown_shrinks_again(store: MemoryStore) -> None:
    before = public_bytes(store)
    collection = json.loads(store.objects[COLLECTION_KEY])
    collection["extent"]["spatial"]["bbox"][0] = [-180.0, -90.0, 180.0, 90.0]
    collection["extent"]["temporal"]["interval"][0][1] = "2099-01-01T00:00:00.000000Z"
    collection["summaries"]["cloudmask:method"].append("x-forged")
    store.objects[COLLECTION_KEY] = encode_document(collection)
    assert problems(check(store)) == {(Problem.STALE_CATALOG, COLLECTION_KEY)}
    repair(store)
    assert public_bytes(store) == before


def test_a_withdrawn_item_may_still_be_covered(store: MemoryStore) -> None:
    Publisher(store, CONTEXT, NOW).withdraw([keys_of(FIRST)], "gone")
    assert check(store).findings == ()


class TestMarks:
    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b'{"cloudmask:fingerprint": 7}', b"{}"]
    )
    def test_a_withdrawn_marker_that_someone_wrote_is_removed(self, store: MemoryStore, body: bytes) -> None:
        before = dict(store.objects)
        store.objects[keys_of(FIRST).withdrawn_marker] = body
        assert (Problem.UNLINKED_ITEM, keys_of(FIRST).item) in problems(check(store))
        repair(store)
        assert store.objects == before

    def test_what_the_source_withdrew_is_not_restored(self, store: MemoryStore) -> None:
        run_steps(withdraw_steps(store, CONTEXT, keys_of(FIRST), "gone", NOW))
        repair(store)
        repair(store)
        assert FIRST not in walk_catalog(store).items

    @pytest.mark.parametrize("successor", [FIRST, OTHER])
    def test_a_mark_of_a_newer_version_that_is_none_is_removed(
        self, store: MemoryStore, successor: str
    ) -> None:
        before = dict(store.objects)
        key = keys_of(FIRST).prefix + superseded_name(successor)
        store.objects[key] = b"junk"
        assert (Problem.WRONG_MARK, key) in problems(check(store))
        repair(store)
        assert store.objects == before

    def test_two_versions_that_name_each_other_are_sorted_out(self, store: MemoryStore) -> None:
        before = dict(store.objects)
        store.objects[keys_of(NEWER).prefix + superseded_name(OLDER)] = b"{}"
        repair(store)
        assert store.objects == before

    def test_two_versions_that_are_both_linked_are_told_apart(self, store: MemoryStore) -> None:
        before = dict(store.objects)
        del store.objects[keys_of(OLDER).prefix + superseded_name(NEWER)]
        change_item(store, lambda item: item["links"].pop(), NEWER)
        year_keys = keys_of(OLDER).year_keys
        linked = list_year(store, year_keys).linked_ids
        store.objects[year_keys.catalog] = encode_document(build_year_catalog(CONTEXT, year_keys, linked))
        assert {OLDER, NEWER} <= set(walk_catalog(store).items)
        assert (Problem.UNSETTLED_VERSION, keys_of(NEWER).item) in problems(check(store))
        repair(store)
        assert store.objects == before


MARKER: dict[str, Any] = {
    "id": FIRST,
    "tile": "22KFV",
    "year": 2018,
    "sha256": "0" * 64,
    "expires": (NOW - timedelta(hours=1)).isoformat(),
}
FORGED: dict[str, dict[str, Any]] = {
    "far future": {"expires": "9999-12-31T23:59:59Z"},
    "beyond any clock": {"expires": (NOW + LEASE + CLOCK_TOLERANCE + timedelta(seconds=1)).isoformat()},
    "foreign tile": {"tile": "33UUP"},
    "foreign year": {"year": 1999},
    "negative year": {"year": -5},
    "huge year": {"year": 10**80},
    "no tile": {"tile": "../../etc"},
    "other id": {"id": OTHER},
    "no text": {"id": 7},
    "digest": {"sha256": ["x"]},
    "stale": {},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_marker_is_dropped_and_ends_nothing(store: MemoryStore, name: str) -> None:
    before, feed = dict(store.objects), changes_key(NOW.date())
    key = f"_pending/{FIRST}.json"
    store.objects[key] = json.dumps(MARKER | FORGED[name]).encode()
    assert problems(check(store)) == {(Problem.STALE_MARKER, key)}
    Publisher(store, CONTEXT, NOW).recover()
    assert public_bytes(store) | {feed: before[feed]} == before
    assert store.objects[feed] == before[feed]
    repair(store)
    assert list_markers(store) == []
    assert store.objects == before


class TestLimit:
    MANY = REMOVAL_LIMIT + 5

    @pytest.fixture
    def ruined(self, store: MemoryStore) -> MemoryStore:
        item_ids = [product_id(10 + number) for number in range(self.MANY)]
        publish(store, *item_ids)
        for item_id in item_ids:
            store.objects[build_publication(item_id).files[0].key] = b"junk"
        return store

    def test_no_more_than_a_few_broken_items_are_taken_out_at_once(self, ruined: MemoryStore) -> None:
        report = check_catalog(ruined, CONTEXT, repair=True, now=NOW)
        assert (report.unlinked, report.held_back, report.left) == (REMOVAL_LIMIT, 5, 5)
        assert not report.is_whole
        assert len(walk_catalog(ruined).items) == 4 + 5
        assert len(list(list_states(ruined))) == REMOVAL_LIMIT

    def test_all_are_if_that_is_asked_for(self, ruined: MemoryStore) -> None:
        report = check_catalog(ruined, CONTEXT, repair=True, now=NOW, options=CheckOptions(limit=None))
        assert (report.unlinked, report.held_back, report.left) == (self.MANY, 0, 0)
        assert report.is_whole


@pytest.mark.slow
def test_a_repair_that_dies_at_any_request_is_ended_by_the_next() -> None:
    """Whatever it left, the next repair leaves the same catalog, and nothing is lost on the way."""
    store = MemoryStore(modified=LONG_AGO)
    publish(store, FIRST, OLDER)
    publish(store, NEWER)
    store.objects[build_publication(OLDER).files[0].key] = b"junk"
    store.objects[build_publication(FIRST).files[0].key] = b"junk"
    ended = MemoryStore(modified=NOW)
    ended.objects = dict(store.objects)
    check_catalog(ended, CONTEXT, repair=True, now=NOW)
    for dies_at in range(0, 10_000, 3):
        dying = DyingStore(dict(store.objects), dies_at, after=bool(dies_at % 2))
        dying.modified = NOW
        try:
            check_catalog(dying, CONTEXT, repair=True, now=NOW)
        except Killed:
            pass
        else:
            return
        survivor = MemoryStore(modified=NOW)
        survivor.objects = dying.objects
        assert set(survivor.objects) >= set(store.objects)
        repair(survivor)
        assert public_bytes(survivor) == public_bytes(ended)
        assert fold_feed(read_feed(survivor)) == find_checksums(walk_catalog(survivor))
    raise AssertionError("the repair never ended")
