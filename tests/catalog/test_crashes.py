"""A run may die anywhere: what it had acknowledged stays, and the next run ends what it began."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.catalog.feed import Change, Feed
from pc_cloudmask.catalog.parents import catalog_stages, tell_stages
from pc_cloudmask.catalog.publisher import Publisher, item_steps
from pc_cloudmask.catalog.states import LEASE, StepName
from pc_cloudmask.errors import StoreUnavailable
from tests.catalog.publications import (
    CONTEXT,
    LESSER,
    NOW,
    build_publication,
    find_checksums,
    fold_feed,
    list_markers,
    product_id,
    public_bytes,
    read_feed,
    walk_catalog,
)
from tests.catalog.writers import take
from tests.doubles.memory_store import MemoryStore

pytestmark = pytest.mark.slow

FIRST_RUN = [product_id(0), product_id(400)]
#: Published by a lesser method at first, and by a better one in the second run.
UPGRADED = product_id(7)
SECOND_RUN = [UPGRADED, product_id(5), product_id(6), product_id(1, "22KFU"), product_id(2, "33UUP")]
LAST = SECOND_RUN[-1]
NEWER = product_id(0, made="20210101T000000")
#: Versions of the items of the first run; the latter comes late.
OLDER = product_id(400, made="20190601T000000")


class Killed(BaseException):
    """Death of the process: no ``except Exception`` holds it up."""


class DyingStore(MemoryStore):
    """Lets requests through until one, dies before it or after its effect, and is then dead."""

    def __init__(self, objects: dict[str, bytes], dies_at: int, *, after: bool) -> None:
        super().__init__()
        self.objects = objects
        self._left = dies_at
        self._after = after

    @property
    def died(self) -> bool:
        return self._left < 0

    def _count(self, name: str) -> None:
        self._left -= 1
        if self._left < 0 and not (self._left == -1 and self._after):
            raise Killed

    def _write(self, key: str, body: bytes) -> None:
        super()._write(key, body)
        if self._left < 0:
            raise Killed


def run(store: MemoryStore, item_ids: list[str], version: str = "1", now: Any = NOW) -> list[str]:
    """What ``ingest`` does: ids that it acknowledges."""
    publisher = Publisher(store, CONTEXT, now, pause=lambda _: None)
    publisher.recover()
    published = []
    for item_id in item_ids:
        publication = build_publication(item_id, version)
        found = publisher.find_published(publication.keys)
        if found is None or found["properties"]["cloudmask:fingerprint"] != version:
            publisher.publish_item(publication)
            published.append(publication.keys)
    publisher.publish_catalogs(published)
    return item_ids


@cache
def first_catalog() -> dict[str, bytes]:
    store = MemoryStore()
    run(store, FIRST_RUN)
    run(store, [UPGRADED], LESSER)
    return store.objects


@cache
def undisturbed() -> dict[str, bytes]:
    store = MemoryStore()
    store.objects = dict(first_catalog())
    run(store, [*SECOND_RUN, NEWER, OLDER])
    return public_bytes(store)


def check_whole(store: MemoryStore, acknowledged: list[str]) -> None:
    walk = walk_catalog(store)
    assert walk.dangling == []
    assert walk.repeated == []
    assert set(acknowledged) <= set(walk.items)
    told = fold_feed(read_feed(store))
    assert set(acknowledged) <= set(told)
    assert set(told) <= set(walk.items), "told and not linked"


def check_told(store: MemoryStore) -> None:
    """The feed, once everything that was begun is ended, says what the catalog has."""
    assert fold_feed(read_feed(store)) == find_checksums(walk_catalog(store))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_dies_at_any_request_loses_nothing_and_is_ended_by_the_next(after: bool) -> None:
    deaths = 0
    for dies_at in range(10_000):
        store = DyingStore(dict(first_catalog()), dies_at, after=after)
        try:
            run(store, [*SECOND_RUN, NEWER, OLDER])
        except Killed:
            deaths += 1
        else:
            break
        survivor = MemoryStore()
        survivor.objects = store.objects
        check_whole(survivor, FIRST_RUN)
        acknowledged = run(survivor, [*SECOND_RUN, NEWER, OLDER])
        check_whole(survivor, [*FIRST_RUN, *acknowledged])
        assert public_bytes(survivor) == undisturbed(), f"died {'after' if after else 'before'} {dies_at}"
        assert list_markers(survivor) == []
        check_told(survivor)
    assert deaths > 60


def test_a_run_that_dies_between_any_two_steps_loses_nothing() -> None:
    """The same by the protocol's own steps, one publication by one."""
    publication = build_publication(LAST)
    names = []
    for stop in range(1, 100):
        store = MemoryStore()
        store.objects = dict(first_catalog())
        steps = all_steps(store, publication)
        names = [step.name for _, step in zip(range(stop), steps, strict=False)]
        steps.close()
        check_whole(store, FIRST_RUN)
        run(store, [LAST])
        check_whole(store, [*FIRST_RUN, LAST])
        assert list_markers(store) == []
        check_told(store)
        if len(names) < stop:
            break
    effects = [name for name in names if name not in {StepName.READ, StepName.RENDER}]
    assert effects[:5] == [StepName.MARK, StepName.FILE, StepName.FILE, StepName.WRITE, StepName.ITEM]
    assert names[-1] == StepName.UNMARK


def all_steps(store: MemoryStore, publication: Any) -> Any:
    yield from item_steps(store, CONTEXT, publication, NOW)
    published = Publisher(store, CONTEXT, NOW).find_published(publication.keys)
    assert published is not None
    keys = publication.keys
    yield from take(catalog_stages(store, CONTEXT, {keys: read_coverage(published)}))
    yield from take(tell_stages(Feed(store, CONTEXT, NOW), [Change(keys, publication.digest)]))


def test_a_lost_answer_at_any_write_changes_nothing_in_the_end() -> None:
    for lost_at in range(200):
        store = LosingStore(dict(first_catalog()), lost_at)
        try:
            run(store, [*SECOND_RUN, NEWER, OLDER])
        except StoreUnavailable:
            run(store, [*SECOND_RUN, NEWER, OLDER])
        assert public_bytes(store) == undisturbed(), f"lost answer {lost_at}"
        assert list_markers(store) == []
        check_told(store)
        if store.writes <= lost_at:
            return
    raise AssertionError("the run never ended without a lost answer")


class LosingStore(MemoryStore):
    """Loses the answer to one write."""

    def __init__(self, objects: dict[str, bytes], lost_at: int) -> None:
        super().__init__()
        self.objects = objects
        self.writes = 0
        self._lost_at = lost_at

    def _write(self, key: str, body: bytes) -> None:
        self.lose_next_answer = self.writes == self._lost_at
        self.writes += 1
        super()._write(key, body)


def test_a_marker_without_its_item_is_left_to_its_writer_until_the_lease_ends() -> None:
    store = MemoryStore()
    steps = item_steps(store, CONTEXT, build_publication(FIRST_RUN[0]), NOW)
    next(steps)
    for now, left in ((NOW, 1), (NOW + LEASE - timedelta(seconds=1), 1), (NOW + LEASE, 0)):
        Publisher(store, CONTEXT, now).recover()
        assert len(list_markers(store)) == left


def test_a_run_that_takes_longer_than_a_lease_is_not_taken_for_dead() -> None:
    """What it begins late is left to it by others, so that it is still found should it die then."""
    store = MemoryStore()
    later = NOW + 3 * LEASE
    publisher = Publisher(DyingStore(store.objects, 3, after=True), CONTEXT, NOW, clock=lambda: later)
    with pytest.raises(Killed):
        publisher.publish_item(build_publication(FIRST_RUN[0]))
    Publisher(store, CONTEXT, later).recover()
    assert len(list_markers(store)) == 1


HUGE = b'{"id": "v", "tile": "22KFV", "year": 1e999, "sha256": "", "expires": "2026-01-01T00:00:00Z"}'


def test_rubbish_among_the_markers_stops_nothing() -> None:
    store = MemoryStore()
    run(store, FIRST_RUN)
    deep = b"[" * 100_000
    for name, body in {
        "x.json": b"\xff",
        "y.json": b"{}",
        "z.json": deep,
        "w.json": b"[]",
        "v.json": HUGE,
    }.items():
        store.objects[f"_pending/{name}"] = body
    run(store, SECOND_RUN)
    check_whole(store, [*FIRST_RUN, *SECOND_RUN])
