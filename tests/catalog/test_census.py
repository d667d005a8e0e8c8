"""``status`` counts by listings what the catalog shows."""

from __future__ import annotations

from datetime import date

from pc_cloudmask.catalog.publisher import Publisher, item_steps
from pc_cloudmask.catalog.search import Census, read_census
from pc_cloudmask.catalog.states import Failure, StateKind, record_failed, record_waiting
from tests.catalog.publications import CONTEXT, NOW, build_publication, keys_of, product_id
from tests.doubles.memory_store import MemoryStore


def test_an_empty_store_holds_nothing() -> None:
    census = read_census(MemoryStore())
    assert census == Census(published=0, pending=0, waiting=0, failed=0, provisional=0, days={})


def test_states_days_and_gaps() -> None:
    store = MemoryStore()
    publisher = Publisher(store, CONTEXT, NOW)
    ids = [product_id(0), product_id(3), product_id(0, "33UUP"), product_id(0, made="20210101T000000")]
    for item_id in [*ids, product_id(5)]:
        publisher.publish_item(build_publication(item_id))
    publisher.publish_catalogs(map(keys_of, [*ids, product_id(5)]))
    publisher.withdraw([keys_of(product_id(5))], "gone")
    next(item_steps(store, CONTEXT, build_publication(product_id(6)), NOW))
    record_waiting(store, product_id(7), "no image yet", NOW)
    record_failed(store, product_id(8), Failure("EngineRefused", "no", retryable=False), NOW)
    record_waiting(store, product_id(3), "no score yet", NOW, kind=StateKind.PROVISIONAL)
    store.requests.clear()

    census = read_census(store)

    assert (census.published, census.pending, census.waiting, census.failed) == (3, 1, 1, 1)
    assert census.provisional == 1
    assert census.days == {"22KFV": (date(2018, 1, 1), date(2018, 1, 4)), "33UUP": (date(2018, 1, 1),)}
    assert store.requests == {"list": 5}
    wanted = [("22KFV", date(2018, 1, day)) for day in (1, 2, 4, 3)] + [("22KFU", date(2018, 1, 1))]
    assert census.find_gaps(wanted) == {
        "22KFU": [date(2018, 1, 1)],
        "22KFV": [date(2018, 1, 2), date(2018, 1, 3)],
    }


def test_an_id_that_tells_no_date_is_counted() -> None:
    store = MemoryStore()
    year_keys = keys_of(product_id(0)).year_keys
    store.objects[f"{year_keys.prefix}sample/sample.json"] = b"{}"
    census = read_census(store)
    assert census.published == 1
    assert census.days == {}
