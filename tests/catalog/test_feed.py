"""The change feed tells what was published, replaced and withdrawn, whoever tells it and whenever."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from pc_cloudmask.catalog import feed
from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.catalog.feed import Change, Feed
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.layout import COLLECTION_ID, changes_key
from pc_cloudmask.catalog.parents import catalog_stages, tell_stages, year_steps
from pc_cloudmask.catalog.publisher import Publisher, item_steps
from pc_cloudmask.catalog.states import Step, Steps
from pc_cloudmask.catalog.versions import mark_withdrawal, withdraw_steps
from tests.catalog.interleaving import Write, visit_states
from tests.catalog.publications import (
    CONTEXT,
    NOW,
    build_publication,
    find_checksums,
    fold_feed,
    keys_of,
    list_markers,
    product_id,
    read_feed,
    walk_catalog,
)
from tests.catalog.writers import take
from tests.doubles.memory_store import MemoryStore

ITEM, OTHER = product_id(0), product_id(3)


def publish(
    store: MemoryStore, *item_ids: str, version: str = "1", now: datetime = NOW, **options: Any
) -> None:
    publisher = Publisher(store, options.get("context", CONTEXT), now)
    for item_id in item_ids:
        publisher.publish_item(build_publication(item_id, version))
    publisher.publish_catalogs(map(keys_of, item_ids))


def list_told(store: MemoryStore) -> list[tuple[str, str]]:
    return [(event["type"].rpartition(".")[2], event["subject"]) for event in read_feed(store)]


def test_an_event_is_a_cloud_event_that_names_item_and_mask() -> None:
    store = MemoryStore()
    publish(store, ITEM, context=CatalogContext("https://example.com/masks"))
    (event,) = read_feed(store)
    item = build_publication(ITEM).item
    data = event["data"]
    assert len(event["id"]) == 32
    assert event == {
        "id": event["id"],
        "data": data,
        "specversion": "1.0",
        "source": f"https://example.com/masks/{COLLECTION_ID}/collection.json",
        "type": "io.github.pc-cloudmask.item.published",
        "subject": ITEM,
        "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json",
    }
    assert data["item"] == f"https://example.com/masks/{keys_of(ITEM).item}"
    assert data["mask"].startswith(f"https://example.com/masks/{keys_of(ITEM).prefix}cloudmask-")
    assert data["mask_checksum"] == item["assets"]["cloudmask"]["file:checksum"]
    assert (data["tile"], data["datetime"], data["method"], data["provisional"]) == (
        *("22KFV", "2018-01-01T13:32:19Z", "s2cloudless", False),
    )
    assert data["cloud_percentage"] == item["properties"]["cloudmask:cloud_percentage"]


def test_without_a_public_url_hrefs_are_relative_to_the_root_catalog() -> None:
    store = MemoryStore()
    publish(store, ITEM)
    (event,) = read_feed(store)
    assert event["data"]["item"] == keys_of(ITEM).item
    assert event["data"]["mask"] in store.objects


def test_what_is_published_replaced_and_withdrawn_is_told_once_in_that_order() -> None:
    store = MemoryStore()
    publish(store, ITEM, OTHER)
    publisher = Publisher(store, CONTEXT, NOW)
    publication = build_publication(ITEM, "2")
    object.__setattr__(publication, "replaces", True)
    publisher.publish_item(publication)
    publisher.publish_catalogs([keys_of(ITEM)])
    publisher.withdraw([keys_of(ITEM)], "gone")
    publisher.recover()
    assert list_told(store) == [
        *(("published", ITEM), ("published", OTHER), ("replaced", ITEM), ("withdrawn", ITEM))
    ]
    assert read_feed(store)[-1]["data"]["reason"] == "gone"
    publish(store, ITEM, version="3")
    assert list_told(store)[-1] == ("published", ITEM)
    assert fold_feed(read_feed(store)) == find_checksums(walk_catalog(store))


def test_the_same_change_has_the_same_id_whoever_tells_it_and_when() -> None:
    first, second = MemoryStore(), MemoryStore()
    publish(first, ITEM)
    publish(second, ITEM, now=NOW + timedelta(days=40))
    publish(second, ITEM, version="2")
    ids = [event["id"] for store in (first, second) for event in read_feed(store, 50)]
    assert ids[0] in ids[1:]
    assert len(set(ids)) == 2


def test_a_full_part_is_followed_by_another_and_never_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PART_BYTES", 1500)
    store = MemoryStore()
    ids = [product_id(number) for number in range(12)]
    for item_id in ids:
        before = {key: body for key, body in store.objects.items() if key.startswith("changes/")}
        publish(store, item_id)
        full = {key for key, body in before.items() if len(body) >= 1500}
        assert {key: store.objects[key] for key in full} == {key: before[key] for key in full}
    assert changes_key(NOW.date(), 5) in store.objects
    assert [item_id for _, item_id in list_told(store)] == ids


def test_a_listing_that_lacks_a_part_leads_astray_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PART_BYTES", 1)
    store = MemoryStore()
    publish(store, ITEM)
    publish(store, OTHER)
    store.spoiled["list"] = 100
    for _ in feed.tell_steps(
        Feed(store, CONTEXT, NOW), [Change(keys_of(ITEM), build_publication(ITEM).digest)]
    ):
        pass
    assert store.objects[changes_key(NOW.date(), 2)].count(b"\n") == 1


def test_a_writer_whose_clock_is_behind_tells_where_others_read_already() -> None:
    store = MemoryStore()
    tomorrow = NOW + timedelta(days=1)
    publish(store, ITEM, now=tomorrow)
    publish(store, ITEM, version="2", now=NOW)
    assert fold_feed(read_feed(store)) == find_checksums(walk_catalog(store))
    assert store.objects[changes_key(tomorrow.date())].count(b"\n") == 2


def test_lines_of_other_programs_stay_and_are_no_events() -> None:
    store = MemoryStore()
    key = changes_key(NOW.date())
    store.objects[key] = b'[]\n{"id": 1}\n\xff\n{"half":'
    publish(store, ITEM)
    *old, new = store.objects[key].splitlines()
    assert b"\n".join(old) == b'[]\n{"id": 1}\n\xff\n{"half":'
    assert ITEM.encode() in new


def publishing(item_id: str, version: str, now: datetime = NOW) -> Write:
    def steps(store: MemoryStore) -> Steps:
        publication = build_publication(item_id, version)
        yield from item_steps(store, CONTEXT, publication, NOW)
        yield from take(catalog_stages(store, CONTEXT, {publication.keys: read_coverage(publication.item)}))
        yield from telling([Change(publication.keys, publication.digest)], now, store)

    return steps


def withdrawing(item_id: str, now: datetime = NOW) -> Write:
    def steps(store: MemoryStore) -> Steps:
        keys = keys_of(item_id)
        yield from withdraw_steps(store, CONTEXT, keys, "gone", NOW)
        yield from year_steps(store, CONTEXT, keys.year_keys)
        yield from telling([Change(keys, mark_withdrawal(keys, "gone", NOW).sha256)], now, store)

    return steps


def telling(changes: Sequence[Change], now: datetime, store: MemoryStore) -> Iterator[Step]:
    yield from take(tell_stages(Feed(store, CONTEXT, now), changes))


LATER = NOW + timedelta(days=1)
FIRST_SCENE = "two masks by clocks of two days"
#: The default leaves out what takes more than some CPU seconds; the random writers do that too.
EVERYTHING = os.environ.get("CLOUDMASK_TEST_STATES") == "all"
SCENES = {
    "a mask and a withdrawal": [publishing(ITEM, "2"), withdrawing(ITEM)],
    "the same mask twice": [publishing(ITEM, "2"), publishing(ITEM, "2")],
    FIRST_SCENE: [publishing(ITEM, "2"), publishing(ITEM, "3", LATER)],
    "a withdrawal by a clock that is ahead": [publishing(ITEM, "2"), withdrawing(ITEM, LATER)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES if EVERYTHING else [FIRST_SCENE])
def test_in_any_order_and_with_any_death_the_feed_ends_as_the_catalog(name: str) -> None:
    store = MemoryStore()
    publish(store, ITEM, OTHER)
    proven: set[bytes] = set()
    for state in visit_states(store.objects, SCENES[name]):
        if state.stored in proven:
            continue
        proven.add(state.stored)
        walk = walk_catalog(state.store)
        assert set(fold_feed(read_feed(state.store))) <= {ITEM, *walk.items}
        dead = MemoryStore()
        dead.objects = dict(state.store.objects)
        Publisher(dead, CONTEXT, NOW + timedelta(hours=7)).recover()
        assert fold_feed(read_feed(dead)) == find_checksums(walk_catalog(dead)), state.steps
        assert list_markers(dead) == []
    assert len(proven) > 5
