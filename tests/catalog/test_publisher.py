"""What publishing writes, how often, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain, islice, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_KEY, tile_catalog_key, zone_catalog_key
from pc_cloudmask.catalog.parents import catalog_stages, year_steps
from pc_cloudmask.catalog.publisher import Publication, Publisher, item_steps
from pc_cloudmask.catalog.states import Steps
from pc_cloudmask.catalog.versions import withdraw_steps
from pc_cloudmask.catalog.walk import find_published
from pc_cloudmask.errors import InvalidField, StoreRefused, StoreUnavailable
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import StoredObject
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import (
    CONTEXT,
    NOW,
    build_publication,
    keys_of,
    product_id,
    public_bytes,
    walk_catalog,
)
from tests.doubles.memory_store import MemoryStore
from tests.doubles.s3_server import S3Server


class RecordingStore(MemoryStore):
    """Remembers the key of every write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def _write(self, key: str, body: bytes) -> None:
        self.writes.append(key)
        super()._write(key, body)


def publish(store: MemoryStore | LocalStore, *item_ids: str, version: str = "1") -> None:
    publisher = Publisher(store, CONTEXT, NOW)
    publications = [build_publication(item_id, version) for item_id in item_ids]
    for publication in publications:
        publisher.publish_item(publication)
    publisher.publish_catalogs(publication.keys for publication in publications)


def test_nothing_published_writes_nothing() -> None:
    store = MemoryStore()
    publisher = Publisher(store, CONTEXT, NOW)
    publisher.publish_catalogs([])
    assert publisher.recover() == []
    assert store.objects == {}


def test_catalogs_of_one_run_are_written_once_each() -> None:
    store = RecordingStore()
    publish(store, *[product_id(number) for number in range(20)], product_id(0, "22KFU"))
    catalogs = Counter(key for key in store.writes if key.endswith(("catalog.json", "collection.json")))
    assert set(catalogs.values()) == {1}
    assert len(catalogs) == 7
    store.writes.clear()
    publish(store, product_id(30), product_id(31))
    written = Counter(key for key in store.writes if key.endswith(("catalog.json", "collection.json")))
    assert written == {keys_of(product_id(0)).year_keys.catalog: 1, COLLECTION_KEY: 1}


def test_nothing_is_linked_before_it_is_whole() -> None:
    store = RecordingStore()
    publish(store, product_id(0))
    year_keys, item = keys_of(product_id(0)).year_keys, keys_of(product_id(0)).item
    order = {key: number for number, key in enumerate(store.writes)}
    files = [order[file.key] for file in build_publication(product_id(0)).files]
    assert store.writes[0].startswith(f"_pending/{product_id(0)}-")
    assert max(files) < order[item]
    chain = [
        item,
        year_keys.catalog,
        tile_catalog_key(year_keys.tile),
        zone_catalog_key(year_keys.zone),
        COLLECTION_KEY,
        CATALOG_KEY,
    ]
    assert [order[key] for key in chain] == sorted(order[key] for key in chain)


def test_publishing_again_changes_no_byte() -> None:
    store = MemoryStore()
    publish(store, product_id(0), product_id(1))
    before = dict(store.objects)
    publish(store, product_id(0), product_id(1))
    assert store.objects == before


def test_what_another_process_put_is_linked_from_its_item(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    publication = build_publication(product_id(0))
    Publisher(store, CONTEXT, NOW).publish_item(publication)
    Publisher(store, CONTEXT, NOW).publish_catalogs([publication.keys])
    expected = MemoryStore()
    publish(expected, product_id(0))
    assert public_bytes(store) == public_bytes(expected)


def test_a_ruined_catalog_is_made_anew_with_all_its_children() -> None:
    store = MemoryStore()
    publish(store, product_id(0), product_id(400), product_id(0, "22KFU"), product_id(0, "33UUP"))
    before = public_bytes(store)
    year_keys = keys_of(product_id(0)).year_keys
    for key in (tile_catalog_key(year_keys.tile), zone_catalog_key(year_keys.zone)):
        store.objects[key] = b"{"
    publish(store, product_id(0))
    assert public_bytes(store) == before


def test_other_parameters_replace_the_item_and_keep_the_older_files() -> None:
    store = MemoryStore()
    publish(store, product_id(0), product_id(1))
    publish(store, product_id(0), version="2")
    walk = walk_catalog(store)
    assert walk.dangling == []
    assert walk.items[product_id(0)]["properties"]["cloudmask:fingerprint"] == "2"
    assert {file.key for file in build_publication(product_id(0), "1").files} <= set(store.objects)


class TestGenerations:
    OLD, MIDDLE, NEW = (product_id(0, made=f"20{year}0101T000000") for year in (19, 20, 21))

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
    def test_the_newest_is_linked_and_the_others_are_reached_from_it(self, order: tuple[int, ...]) -> None:
        versions = [self.OLD, self.MIDDLE, self.NEW]
        store = MemoryStore()
        for number in order:
            publish(store, versions[number], product_id(5))
        walk = walk_catalog(store)
        assert (walk.dangling, walk.repeated) == ([], [])
        assert set(walk.items) == {*versions, product_id(5)}
        year_keys = walk.documents[keys_of(self.OLD).year_keys.catalog]
        linked = {link["href"].split("/")[1] for link in year_keys["links"] if link["rel"] == "item"}
        assert linked == {self.NEW, product_id(5)}
        # Beside its own links, each item has one to the version before it.
        for before, item_id in zip((None, self.OLD, self.MIDDLE), versions, strict=True):
            older = [f"../{before}/{before}.json"] if before else []
            own = [link["href"] for link in build_publication(item_id).item["links"]]
            assert [link["href"] for link in walk.items[item_id]["links"]] == own + older

    @pytest.mark.slow
    @given(st.lists(st.integers(0, 2), max_size=60))
    def test_generations_published_at_one_time_are_told_apart(self, turns: list[int]) -> None:
        """Three writers, a step of one or another at a time."""
        versions = [self.OLD, self.MIDDLE, self.NEW]
        store = MemoryStore()
        writers = [item_steps(store, CONTEXT, build_publication(each), NOW) for each in versions]
        for turn in turns:
            next(writers[turn], None)
        for writer in writers:
            list(writer)
        Publisher(store, CONTEXT, NOW).publish_catalogs(map(keys_of, versions))
        walk = walk_catalog(store)
        assert (walk.dangling, walk.repeated) == ([], [])
        assert set(walk.items) == set(versions)
        year_keys = walk.documents[keys_of(self.OLD).year_keys.catalog]
        assert [link["href"].split("/")[1] for link in year_keys["links"] if link["rel"] == "item"] == [
            self.NEW
        ]

    def test_two_datastrips_of_one_datatake_are_two_scenes(self) -> None:
        store = MemoryStore()
        publisher = Publisher(store, CONTEXT, NOW)
        halves = [build_publication(self.OLD), build_publication(self.NEW, strip="20180101T000959")]
        for half in halves:
            publisher.publish_item(half)
        publisher.publish_catalogs(half.keys for half in halves)
        year_keys = json.loads(store.objects[halves[0].keys.year_keys.catalog])
        assert [link["rel"] for link in year_keys["links"]].count("item") == 2

    @pytest.mark.parametrize(
        "body", [b"{", b"{}", b'{"properties": 3}', b'{"properties": {"s2:datastrip_id": 3}}']
    )
    def test_a_broken_generation_does_not_stop_the_next(self, body: bytes) -> None:
        store = MemoryStore()
        publish(store, self.OLD)
        store.objects[keys_of(self.OLD).item] = body
        publish(store, self.NEW)
        assert self.NEW.encode() in store.objects[keys_of(self.NEW).year_keys.catalog]

    def test_an_id_of_another_form_has_no_generations(self) -> None:
        store = MemoryStore()
        publication = build_publication(product_id(0))
        item = publication.item | {"id": "sample"}
        keys = type(publication.keys)(publication.keys.year_keys, "sample")
        publisher = Publisher(store, CONTEXT, NOW)
        publisher.publish_item(Publication(keys, item, publication.files))
        publisher.publish_catalogs([keys])
        assert set(walk_catalog(store).items) == {"sample"}


class TestLinkingWhatIsMissing:
    """What a writer put that was taken for dead, and then died: no marker tells of it."""

    OLD, NEW = (product_id(0, made=f"20{year}0101T000000") for year in (19, 21))

    def test_it_is_linked_by_the_next_run_over_it(self) -> None:
        store = MemoryStore()
        publish(store, self.OLD, product_id(3))
        for _ in item_steps(store, CONTEXT, build_publication(self.NEW), NOW):
            pass
        for key in [key for key in store.objects if key.startswith("_pending/")]:
            del store.objects[key]
        Publisher(store, CONTEXT, NOW).recover()
        assert self.NEW not in walk_catalog(store).items
        Publisher(store, CONTEXT, NOW).link_missing(map(keys_of, (self.OLD, self.NEW, product_id(3))))
        assert set(walk_catalog(store).items) == {self.OLD, self.NEW, product_id(3)}

    def test_what_is_linked_costs_one_read_a_year_and_no_write(self) -> None:
        store = RecordingStore()
        publish(store, self.OLD, self.NEW, product_id(3), product_id(400))
        store.writes.clear()
        store.requests.clear()
        Publisher(store, CONTEXT, NOW).link_missing(map(keys_of, (self.NEW, product_id(3), product_id(400))))
        assert store.requests == {"read": 2}
        # An older version is in no catalog, which one listing explains.
        Publisher(store, CONTEXT, NOW).link_missing([keys_of(self.OLD)])
        assert store.requests == {"read": 3, "list": 1}
        assert store.writes == []


class TestWithdrawing:
    ITEM = product_id(0)

    def publish_anew(self, store: MemoryStore) -> Steps:
        publication = build_publication(self.ITEM, "2")
        yield from item_steps(store, CONTEXT, publication, NOW)
        coverage = read_coverage(publication.item)
        for stage in catalog_stages(store, CONTEXT, {publication.keys: coverage}):
            for steps in stage:
                yield from steps

    def withdraw(self, store: MemoryStore) -> Steps:
        keys = keys_of(self.ITEM)
        yield from withdraw_steps(store, CONTEXT, keys, "gone", NOW)
        yield from year_steps(store, CONTEXT, keys.year_keys)

    @pytest.mark.slow
    @pytest.mark.parametrize("first", ["publish_anew", "withdraw"])
    def test_an_item_published_while_it_is_withdrawn_is_linked_or_published_again(self, first: str) -> None:
        """Wherever the one stops for some steps of the other: what counts as published is linked."""
        second = {"publish_anew": "withdraw", "withdraw": "publish_anew"}[first]
        for stop, steps in product(range(16), range(1, 16)):
            store = MemoryStore()
            publish(store, self.ITEM, product_id(3))
            one, other = getattr(self, first)(store), getattr(self, second)(store)
            for _ in chain(islice(one, stop), islice(other, steps), one, other):
                pass
            item = find_published(store, keys_of(self.ITEM))
            assert item is not None
            is_current = item["properties"].get("cloudmask:fingerprint") == "2"
            walk = walk_catalog(store)
            assert not walk.dangling
            assert self.ITEM in walk.items or not is_current, (stop, steps)


class TestFinding:
    def test_one_read_finds_an_item(self) -> None:
        store = MemoryStore()
        publish(store, product_id(0))
        store.requests.clear()
        found = find_published(store, keys_of(product_id(0)))
        assert found is not None
        assert found["id"] == product_id(0)
        assert store.requests == {"read": 1}
        assert find_published(store, keys_of(product_id(1))) is None

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"{}", b'{"id": "x", "properties": {}}', b"[" * 99_999]
    )
    def test_a_broken_item_counts_as_none(self, body: bytes) -> None:
        store = MemoryStore()
        store.objects[keys_of(product_id(0)).item] = body
        assert find_published(store, keys_of(product_id(0))) is None

    def test_a_broken_item_among_the_markers_does_not_stop_the_next_run(self) -> None:
        store = MemoryStore()
        Publisher(store, CONTEXT, NOW).publish_item(build_publication(product_id(0)))
        store.objects[keys_of(product_id(0)).item] = b"{"
        Publisher(store, CONTEXT, NOW).recover()
        publish(store, product_id(1))
        assert product_id(1).encode() in store.objects[keys_of(product_id(1)).year_keys.catalog]

    def test_an_unreadable_marker_is_named_and_stops_no_other(self, caplog: pytest.LogCaptureFixture) -> None:
        class DeniedStore(MemoryStore):
            denied = ""

            def read_object(self, key: str) -> StoredObject | None:
                if key == self.denied:
                    raise StoreRefused(f"{key}: access denied")
                return super().read_object(key)

        store = DeniedStore()
        publisher = Publisher(store, CONTEXT, NOW)
        for number in (0, 1):
            publisher.publish_item(build_publication(product_id(number)))
        store.denied, _ = sorted(key for key in store.objects if key.startswith("_pending/"))
        assert Publisher(store, CONTEXT, NOW).recover() == [keys_of(product_id(1))]
        assert f"{store.denied}: access denied" in caplog.text
        assert [key for key in store.objects if key.startswith("_pending/")] == [store.denied]
        store.denied = ""
        assert Publisher(store, CONTEXT, NOW).recover() == [keys_of(product_id(0))]


class TestRefusing:
    def test_an_item_without_a_place_is_refused_before_anything_is_written(self) -> None:
        store = MemoryStore()
        publication = build_publication(product_id(0))
        item = publication.item
        del item["bbox"]
        with pytest.raises(InvalidField, match="bbox or datetime"):
            Publisher(store, CONTEXT, NOW).publish_item(
                Publication(publication.keys, item, publication.files)
            )
        assert store.objects == {}

    @pytest.mark.slow
    @pytest.mark.parametrize("behaviour", ["careless", "deaf"])
    def test_a_store_without_compare_and_swap_is_for_a_single_writer(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, behaviour: str
    ) -> None:
        server: S3Server = request.getfixturevalue("s3_server")
        server.use(monkeypatch)
        store = open_store(f"s3://{server.create_bucket(behaviour)}/out")
        publication = build_publication(product_id(0))
        with pytest.raises(StoreRefused, match=r"ignores conditional writes.*CLOUDMASK_SINGLE_WRITER=true"):
            Publisher(store, CONTEXT, NOW).publish_item(publication)
        assert list(store.list_objects("")) == []

        publisher = Publisher(store, CONTEXT, NOW, single_writer=True)
        for number in range(2):
            publication = build_publication(product_id(number))
            publisher.publish_item(publication)
            publisher.publish_catalogs([publication.keys])
        assert len(walk_catalog(store).items) == 2

    def test_a_store_that_stays_away_ends_the_run_and_the_next_one_links(self) -> None:
        store = MemoryStore()
        pauses: list[float] = []
        publisher = Publisher(AwayStore(store), CONTEXT, NOW, pause=pauses.append)
        publication = build_publication(product_id(0))
        publisher.publish_item(publication)
        with pytest.raises(StoreUnavailable):
            publisher.publish_catalogs([publication.keys])
        assert len(pauses) == 3
        Publisher(store, CONTEXT, NOW).recover()
        assert set(walk_catalog(store).items) == {product_id(0)}


class AwayStore(MemoryStore):
    """Takes items and files, and is away when a catalog is written."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__()
        self.objects = inner.objects

    def _write(self, key: str, body: bytes) -> None:
        if key.endswith("catalog.json"):
            raise StoreUnavailable(f"{key}: away")
        super()._write(key, body)
