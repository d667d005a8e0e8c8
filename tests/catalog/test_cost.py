"""Publishing costs the same at any size of the catalog."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.feed import NDJSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import YearKeys, changes_key
from pc_cloudmask.catalog.publisher import Publisher
from tests.catalog.publications import CONTEXT, NOW, build_publication, product_id
from tests.catalog.seeding import LEAF_ITEMS, CountingStore, seed_items
from tests.doubles.memory_store import MemoryStore

#: Into a year that holds a satellite's whole year, at every size.
NEW = product_id(1, "22KAA")


def seeded(count: int) -> MemoryStore:
    store = MemoryStore()
    seed_items(store.objects.__setitem__, count)
    check_catalog(store, CONTEXT, repair=True, now=NOW)
    return store


def measure_publishing(store: MemoryStore) -> CountingStore:
    counting = CountingStore(store)
    store.write_object(changes_key(NOW.date()), b"", NDJSON_MEDIA_TYPE)  # as every day's first batch does
    publisher = Publisher(counting, CONTEXT, NOW)
    publication = build_publication(NEW)
    publisher.publish_item(publication)
    publisher.publish_catalogs([publication.keys])
    return counting


@pytest.fixture(scope="module")
def small() -> CountingStore:
    return measure_publishing(seeded(100))


@pytest.mark.slow
def test_requests_and_bytes_are_equal_in_a_catalog_twenty_times_as_large(small: CountingStore) -> None:
    large = measure_publishing(seeded(2_000))
    assert large.requests == small.requests
    assert set(large.written) == set(small.written)
    # The collection's text differs by a link to the other zone.
    assert abs(sum(large.written.values()) - sum(small.written.values())) < 1000


def test_one_item_takes_few_requests(small: CountingStore) -> None:
    """Six writes: marker, two files, item, year, change feed. What is above links and covers it already.

    The feed takes four requests: it and the item are read, it is written, and looked for on the day after.
    """
    assert small.requests == Counter(GET=9, LIST=6, PUT=6, HEAD=2, DELETE=1)


@pytest.mark.slow
def test_a_scene_of_a_batch_takes_ten_requests_more() -> None:
    """Catalogs and the change feed cost a batch once.

    Marker, two files, the item read and written with a listing between them, the marker looked for, a listing
    after it, the item read again for the change feed, the marker removed.
    """
    counts = []
    for batch in (10, 20):
        counting = CountingStore(seeded(100))
        publisher = Publisher(counting, CONTEXT, NOW)
        publications = [build_publication(product_id(2000 + number, "22KAA")) for number in range(batch)]
        for publication in publications:
            publisher.publish_item(publication)
        publisher.publish_catalogs(publication.keys for publication in publications)
        counts.append(counting.requests.total())
    assert counts[1] - counts[0] == 10 * 10


def test_a_full_year_of_three_satellites_is_a_small_document() -> None:
    store = MemoryStore()
    publisher = Publisher(store, CONTEXT, NOW)
    publications = [
        build_publication(
            product_id(day, made=f"20201008T00000{satellite}"), strip=f"2018010{satellite}T000000"
        )
        for day in range(0, 365, 5)
        for satellite in range(3)
    ]
    for publication in publications:
        publisher.publish_item(publication)
    publisher.publish_catalogs(publication.keys for publication in publications)
    body = store.objects[YearKeys("22KFV", 2018).catalog]
    assert sum(link["rel"] == "item" for link in json.loads(body)["links"]) == 3 * LEAF_ITEMS
    assert len(body) < 50_000
