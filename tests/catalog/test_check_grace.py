"""The grace period of what a repair took out: nothing that may be sound is removed at its end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from pc_cloudmask.catalog import check as check_module
from pc_cloudmask.catalog.check import Removals, check_catalog, repair_year
from pc_cloudmask.catalog.check_catalogs import Checker, check_year
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.findings import Problem
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_KEY, tile_catalog_key
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import build_marker, write_marker
from pc_cloudmask.catalog.walk import list_year
from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore, StoredObject
from tests.catalog.publications import CONTEXT, NOW, build_publication, keys_of, walk_catalog
from tests.catalog.test_check_doubt import NEWER, OLDER, VICTIM, fill
from tests.doubles.memory_store import MemoryStore

KEYS = keys_of(VICTIM)
MASK = build_publication(VICTIM).files[0]
AFTER_GRACE = NOW + timedelta(days=8)


class DoubtfulStore(MemoryStore):
    """Does not give what is ``unread``, and does not list what is ``hidden``."""

    unread = hidden = ""

    def read_object(self, key: str) -> StoredObject | None:
        if key == self.unread:
            raise StoreUnavailable("no answer")
        return super().read_object(key)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        return (info for info in super().list_objects(prefix) if info.key != self.hidden)


class GarblingStore(MemoryStore):
    """Gives of some keys another body than it holds and lists."""

    garbled: Mapping[str, bytes] = MappingProxyType({})

    def read_object(self, key: str) -> StoredObject | None:
        stored = super().read_object(key)
        return StoredObject(key, self.garbled[key], "x") if stored and key in self.garbled else stored


def damage(store: ObjectStore) -> None:
    store.write_object(MASK.key, b"x" * len(MASK.body), MASK.media_type)


def take_out_by_mistake(store: ObjectStore) -> None:
    """A repair takes the item out, whose mask is as it was soon after."""
    fill(store)
    damage(store)
    assert check_catalog(store, CONTEXT, repair=True, now=NOW).unlinked == 1
    store.write_object(MASK.key, MASK.body, MASK.media_type)


def test_a_sound_item_comes_back_after_the_grace_period_too() -> None:
    store = MemoryStore()
    take_out_by_mistake(store)
    check_catalog(store, CONTEXT, repair=True, now=AFTER_GRACE)
    assert VICTIM in walk_catalog(store).items


def test_an_item_whose_marker_cannot_be_read_is_not_removed() -> None:
    store = DoubtfulStore()
    take_out_by_mistake(store)
    store.unread = KEYS.withdrawn_marker
    report = check_catalog(store, CONTEXT, repair=True, now=AFTER_GRACE)
    assert {KEYS.item, MASK.key} <= store.objects.keys()
    assert not report.is_whole


def test_an_item_that_a_listing_lacks_is_not_removed() -> None:
    store = DoubtfulStore()
    take_out_by_mistake(store)
    store.hidden = KEYS.item
    check_catalog(store, CONTEXT, repair=True, now=AFTER_GRACE)
    assert {KEYS.item, MASK.key} <= store.objects.keys()


def test_two_repairs_at_once_keep_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    fill(store)
    damage(store)

    def repair_second(*args: Any) -> bool:
        monkeypatch.setattr(check_module, "repair_year", repair_year)
        check_catalog(store, CONTEXT, repair=True, now=NOW)
        return repair_year(*args)

    monkeypatch.setattr(check_module, "repair_year", repair_second)
    check_catalog(store, CONTEXT, repair=True, now=NOW)
    store.write_object(MASK.key, MASK.body, MASK.media_type)
    check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert VICTIM in walk_catalog(store).items


def test_a_clock_that_is_ahead_does_not_end_the_grace_period(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    fill(store)
    damage(store)
    check_catalog(store, CONTEXT, repair=True, now=datetime.now(UTC) + timedelta(days=8))
    assert store.find_object(KEYS.item) is not None
    assert store.find_object(MASK.key) is not None


def test_the_newest_version_stays_where_an_older_one_was_removed_by_hand() -> None:
    store = MemoryStore()
    fill(store)
    for key in [key for key in store.objects if key.startswith(keys_of(OLDER).prefix)]:
        del store.objects[key]
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    walk = walk_catalog(store)
    assert NEWER in walk.items
    assert walk.dangling == []
    assert report.unlinked == 0


def lead_to_a_stranger(rel: str) -> Callable[[dict[str, Any]], None]:
    def change(item: dict[str, Any]) -> None:
        for link in item["links"]:
            if link["rel"] == rel:
                link["href"] = "https://evil.example/catalog.json"

    return change


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no type": lambda item: item.pop("type"),
    "another type": lambda item: item.update(type="Catalog"),
    "no STAC version": lambda item: item.pop("stac_version"),
    "another collection": lambda item: item.update(collection="x"),
    "a schema of a stranger": lambda item: item.update(stac_extensions=["https://evil.example/schema.json"]),
    "a stranger's root": lead_to_a_stranger("root"),
    "a stranger's parent": lead_to_a_stranger("parent"),
    "a stranger's collection": lead_to_a_stranger("collection"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_item_that_publishing_would_not_write_is_found(name: str) -> None:
    store = MemoryStore()
    fill(store)
    item = json.loads(store.objects[KEYS.item])
    LIES[name](item)
    store.objects[KEYS.item] = json.dumps(item).encode()
    assert not check_catalog(store, CONTEXT, repair=False, now=NOW).is_whole


def test_an_item_whose_own_links_all_lead_to_a_stranger_is_found() -> None:
    store = MemoryStore()
    fill(store)
    store.objects[KEYS.item] = build_publication(
        VICTIM, context=CatalogContext("https://evil.example/c")
    ).item
    assert not check_catalog(store, CONTEXT, repair=False, now=NOW).is_whole


def test_the_older_version_is_linked_though_a_listing_lacks_it() -> None:
    """It was reached through the newer one, so the year's catalog did not link it."""
    store = DoubtfulStore()
    fill(store)
    store.hidden = keys_of(OLDER).item
    with contextlib.suppress(StoreUnavailable):
        Publisher(store, CONTEXT, NOW, pause=lambda _: None).withdraw([keys_of(NEWER)], "gone")
    store.hidden = ""
    assert {OLDER, NEWER} & walk_catalog(store).items.keys()


@pytest.mark.parametrize("links", [{}, ""])
def test_a_newest_version_without_a_list_of_links_is_mended(links: object) -> None:
    store = MemoryStore()
    fill(store)
    item = json.loads(store.objects[keys_of(NEWER).item])
    store.objects[keys_of(NEWER).item] = json.dumps({**item, "links": links}).encode()
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert report.is_whole
    assert OLDER in walk_catalog(store).items


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"id": "x", "withdrawn": "2020-01-01T00:00:00Z"}']
)
def test_an_item_whose_marker_says_nothing_is_not_removed(body: bytes) -> None:
    store = MemoryStore()
    take_out_by_mistake(store)
    store.objects[KEYS.withdrawn_marker] = body
    report = check_catalog(store, CONTEXT, repair=True, now=AFTER_GRACE)
    assert {KEYS.item, MASK.key} <= store.objects.keys()
    assert [(each.problem, each.key) for each in report.findings] == [
        (Problem.COULD_NOT_READ, KEYS.withdrawn_marker)
    ]


def test_the_grace_period_counts_from_what_the_marker_says_too() -> None:
    """The store's clock is behind: the marker is not older than the week because its object seems so."""
    store = MemoryStore()
    fill(store)
    store.modified = NOW - timedelta(days=30)
    Publisher(store, CONTEXT, NOW).withdraw([KEYS], "gone")
    for days, is_there in ((6, True), (7, False)):
        check_catalog(store, CONTEXT, repair=True, now=NOW + timedelta(days=days))
        assert (KEYS.item in store.objects) is is_there


@pytest.mark.parametrize(
    "key", [KEYS.year_keys.catalog, tile_catalog_key(KEYS.year_keys.tile), COLLECTION_KEY, CATALOG_KEY]
)
@pytest.mark.parametrize("body", [b"", b"\x1f\x8b\x08", b"<html>", b'{"error": "busy"}'])
def test_a_body_that_is_not_the_listed_one_is_doubt(key: str, body: bytes) -> None:
    """As a proxy's page, or a body that came compressed or in part, with status 200."""
    store = GarblingStore()
    fill(store)
    before = dict(store.objects)
    store.garbled = {key: body}
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert {each.problem for each in report.findings} == {Problem.COULD_NOT_READ}
    assert key in {each.key for each in report.findings}
    assert store.objects == before


def test_a_pending_marker_that_came_garbled_is_left_to_its_writer() -> None:
    store = GarblingStore()
    fill(store)
    marker = build_marker(KEYS, "0" * 64, NOW)
    write_marker(store, marker)
    store.garbled = {marker.key: b"<html>"}
    report = check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert [(each.problem, each.key) for each in report.findings] == [(Problem.COULD_NOT_READ, marker.key)]
    assert marker.key in store.objects


@pytest.mark.parametrize("created", ["garbage", "", 7, "2020-01-01"])
def test_a_date_of_publishing_that_is_none_is_found(created: object) -> None:
    store = MemoryStore()
    fill(store)
    item = json.loads(store.objects[KEYS.item])
    item["properties"]["created"] = created
    store.objects[KEYS.item] = json.dumps(item).encode()
    report = check_catalog(store, CONTEXT, repair=False, now=NOW)
    assert [each.problem for each in report.findings] == [Problem.BROKEN_ITEM]


def test_what_was_published_again_since_the_check_is_not_removed() -> None:
    """Its writer's marker may be missing from a listing."""
    store = MemoryStore()
    fill(store)
    whole = store.objects[KEYS.item]
    Publisher(store, CONTEXT, NOW).withdraw([KEYS], "gone")
    found = check_year(Checker(store, CONTEXT, AFTER_GRACE), list_year(store, KEYS.year_keys))
    assert found.withdrawn == [VICTIM]
    store.objects[KEYS.item] = whole
    repair_year(store, CONTEXT, found, AFTER_GRACE, Removals())
    assert {KEYS.item, MASK.key} <= store.objects.keys()


def test_files_of_an_item_that_is_gone_since_the_check_are_not_removed_as_orphans() -> None:
    store = MemoryStore()
    fill(store)
    publisher = Publisher(store, CONTEXT, NOW)
    publisher.publish_item(build_publication(VICTIM, "2"))
    publisher.publish_catalogs([KEYS])
    found = check_year(Checker(store, CONTEXT, AFTER_GRACE), list_year(store, KEYS.year_keys))
    assert MASK.key in found.orphans
    del store.objects[KEYS.item]
    repair_year(store, CONTEXT, found, AFTER_GRACE, Removals())
    assert MASK.key in store.objects
