"""Reading the change feed on from any place, in every kind of store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import pc_cloudmask
from pc_cloudmask.catalog import feed
from pc_cloudmask.catalog.layout import changes_key
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectPart, ObjectStore
from pc_cloudmask.viewing.follow import FeedReader
from tests.catalog.publications import CONTEXT, build_publication, keys_of, product_id
from tests.doubles.memory_store import MemoryStore
from tests.viewing.conftest import Serve

NOW = datetime.now(UTC).replace(microsecond=0)
IDS = [product_id(number) for number in range(9)]


def publish(store: ObjectStore, *item_ids: str, now: datetime = NOW) -> None:
    publisher = Publisher(store, CONTEXT, now)
    for item_id in item_ids:
        publisher.publish_item(build_publication(item_id))
    publisher.publish_catalogs(map(keys_of, item_ids))


def read(reader: FeedReader) -> list[str]:
    return [event["subject"] for event in reader.read_new()]


def test_every_event_is_given_once_in_order_whatever_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PART_BYTES", 2500)
    store = MemoryStore()
    publish(store, IDS[0], now=NOW - timedelta(days=5))
    reader = FeedReader(store, (NOW - timedelta(days=9)).date().isoformat())
    assert read(reader) == [IDS[0]]
    told = []
    for item_id in IDS[1:]:
        publish(store, item_id)
        told += read(reader)
    assert told == IDS[1:]
    assert changes_key(NOW.date(), 2) in store.objects
    assert read(reader) == []


def test_the_cursor_of_any_event_goes_on_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PART_BYTES", 2500)
    store = MemoryStore()
    for number, item_id in enumerate(IDS):
        publish(store, item_id, now=NOW - timedelta(days=2 - number // 3))
    events = list(FeedReader(store, (NOW - timedelta(days=2)).date().isoformat()).read_new())
    assert [event["subject"] for event in events] == IDS
    for number, event in enumerate(events):
        assert read(FeedReader(store, event["cursor"])) == IDS[number + 1 :]
        assert read(FeedReader(store, event["id"])) == IDS[number + 1 :]


def test_an_instant_begins_with_the_first_event_from_then_on() -> None:
    store = MemoryStore()
    noon = NOW.replace(hour=12, minute=0, second=0) - timedelta(days=1)
    for number, item_id in enumerate(IDS[:4]):
        publish(store, item_id, now=noon + timedelta(minutes=number))
    since = (noon + timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
    assert read(FeedReader(store, since)) == IDS[2:4]


def test_without_a_place_only_what_is_new_is_given() -> None:
    store = MemoryStore()
    publish(store, IDS[0])
    reader = FeedReader(store)
    assert read(reader) == []
    publish(store, IDS[1])
    assert read(reader) == [IDS[1]]


def test_what_is_told_where_a_reader_has_just_been_is_given_all_the_same() -> None:
    """The next day's file is there before the reader looks for it; the line came after its last look."""
    store = MemoryStore()
    yesterday = NOW - timedelta(days=1)
    publish(store, IDS[0], now=yesterday)

    class Late(FeedReader):
        def _has_file(self, day: object) -> bool:  # type: ignore[override]
            if not told:
                told.append(1)
                publish(store, IDS[1], now=yesterday)
                publish(store, IDS[2], now=NOW)
            return super()._has_file(day)  # type: ignore[arg-type]

    told: list[int] = []
    assert read(Late(store, yesterday.date().isoformat())) == IDS[:3]


@pytest.fixture(params=["folder", "http"])
def url(request: pytest.FixtureRequest, tmp_path: Path, serve: Serve) -> tuple[str, LocalStore]:
    store = LocalStore(tmp_path / "out")
    publish(store, *IDS[:3])
    return (str(store.root) if request.param == "folder" else serve(store.root)), store


def test_folder_and_web_give_the_same_events(url: tuple[str, LocalStore]) -> None:
    where, store = url
    today = NOW.date().isoformat()
    events = list(pc_cloudmask.changes(today, store=where))
    assert [event["subject"] for event in events] == IDS[:3]
    publish(store, IDS[3])
    (event,) = pc_cloudmask.changes(events[-1]["cursor"], store=where)
    assert event["subject"] == IDS[3]


class SilentStore(MemoryStore):
    """As a bucket that may not be listed: refuses what is not there."""

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        part = super().read_part(key, offset, length)
        if part is None:
            raise StoreRefused(f"{key}: HTTP 403: not public, or not there at all")
        return part


def test_a_bucket_that_refuses_what_is_not_there_is_read_all_the_same() -> None:
    store = SilentStore()
    publish(store, IDS[0])
    assert read(FeedReader(store, NOW.date().isoformat())) == [IDS[0]]


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "f" * 32, "2026-01-01.x.0"])
def test_a_place_that_is_none_is_named(since: str) -> None:
    store = MemoryStore()
    publish(store, IDS[0])
    with pytest.raises(SettingsError, match="--since"):
        FeedReader(store, since)


def test_a_place_of_another_feed_is_named() -> None:
    store = MemoryStore()
    publish(store, IDS[0])
    with pytest.raises(SettingsError, match="no such place"):
        read(FeedReader(store, f"{NOW.date()}.0.999999"))


def test_where_nothing_is_published_the_store_is_named() -> None:
    with pytest.raises(SettingsError, match="memory holds no catalog"):
        FeedReader(MemoryStore())
