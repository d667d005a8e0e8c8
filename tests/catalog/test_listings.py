"""Listings that are empty or cut, and look complete, at every call site: no link is lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import decode_document
from pc_cloudmask.catalog.layout import COLLECTION_KEY
from pc_cloudmask.catalog.mirror import rebuild_mirror
from pc_cloudmask.catalog.parents import find_mirror_keys
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.search import read_census
from pc_cloudmask.catalog.walk import list_year
from pc_cloudmask.errors import StoreUnavailable
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

pytestmark = pytest.mark.slow

PRESENT = [product_id(day) for day in (0, 5, 10, 400)] + [product_id(0, "22KFU"), product_id(3, "33UUP")]
NEW = [product_id(15), product_id(800), product_id(1, "22KFT"), product_id(2, "34UUP")]
PART = "sentinel-2-l2a-cloudmask/items/part-1.parquet"


class SpoilingStore(MemoryStore):
    """Cuts the listings of one number, or from one number on."""

    def __init__(self, objects: dict[str, bytes], first: int, count: int, share: float) -> None:
        super().__init__()
        self.objects = dict(objects)
        self.share = share
        self.listings = 0
        self._cut = range(first, first + count)

    def _spoil(self, kind: str, entries: list[str]) -> list[str]:
        self.listings += 1
        return entries[: int(len(entries) * self.share)] if self.listings - 1 in self._cut else entries


def publish(store: MemoryStore, item_ids: list[str]) -> None:
    publisher = Publisher(store, CONTEXT, NOW, pause=lambda _: None)
    publisher.recover()
    for item_id in item_ids:
        publisher.publish_item(build_publication(item_id))
    publisher.publish_catalogs([keys_of(item_id) for item_id in item_ids])


@cache
def catalog() -> dict[str, bytes]:
    store = MemoryStore()
    publish(store, PRESENT)
    store.objects[PART] = b"rows"
    Publisher(store, CONTEXT, NOW).publish_collection()
    return store.objects


@cache
def undisturbed() -> dict[str, bytes]:
    store = MemoryStore()
    store.objects = dict(catalog())
    publish(store, NEW)
    return public_bytes(store)


def list_parts(store: MemoryStore) -> list[str]:
    document = decode_document(store.objects[COLLECTION_KEY], COLLECTION_KEY)
    return [asset["href"] for asset in document.get("assets", {}).values()]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_no_link_is_lost_whichever_listing_of_a_run_is_cut(share: float, count: int) -> None:
    for first in range(1000):
        store = SpoilingStore(catalog(), first, count, share)
        try:
            publish(store, NEW)
            expected = {*PRESENT, *NEW}
        except StoreUnavailable as error:
            assert "listing of memory lacks" in str(error)  # noqa: PT017 - which runs end so is not the point
            expected = set(PRESENT)
        walk = walk_catalog(store)
        assert walk.dangling == []
        assert expected <= set(walk.items), f"listing {first}"
        assert list_parts(store) == ["./items/part-1.parquet"]
        survivor = MemoryStore()
        survivor.objects = store.objects
        publish(survivor, NEW)
        assert public_bytes(survivor) == undisturbed(), f"listing {first}"
        if store.listings <= first:
            return
    raise AssertionError("the run never ended without a cut listing")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_what_only_reads_never_tells_less_than_is_there(share: float) -> None:
    readers: dict[str, Callable[[MemoryStore], object]] = {
        "census": lambda store: read_census(store).published,
        "year": lambda store: list_year(store, keys_of(PRESENT[0]).year_keys).linked_ids,
    }
    for read in readers.values():
        expected = read(SpoilingStore(catalog(), 0, 0, share))
        assert read(SpoilingStore(catalog(), 5, 100, share)) == expected
        with pytest.raises(StoreUnavailable, match="the listing of memory lacks it"):
            read(SpoilingStore(catalog(), 0, 100, share))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_rebuilt_mirror_holds_every_item_whichever_listing_is_cut(share: float) -> None:
    pytest.importorskip("stac_geoparquet")
    tile = b'"properties":{"s2:mgrs_tile":"%b",'
    objects = {
        key: body.replace(b'"properties":{', tile % key.split("/")[2].encode()) if "/S2B" in key else body
        for key, body in catalog().items()
    }
    for first in range(0, 100, 3):
        store = SpoilingStore(objects, first, 1, share)
        report = rebuild_mirror(store, Publisher(store, CONTEXT, NOW))
        assert report.items == len(PRESENT)
        assert {f"./{key.partition('/')[2]}" for key in report.files} <= set(list_parts(store))
        walked = decode_document(store.objects[COLLECTION_KEY], COLLECTION_KEY)["assets"].values()
        for asset in walked:
            assert f"sentinel-2-l2a-cloudmask/{asset['href'].removeprefix('./')}" in store.objects
        if store.listings <= first:
            return


def test_an_item_that_somebody_removed_is_unlinked_where_two_listings_and_the_store_agree() -> None:
    store = MemoryStore()
    store.objects = dict(catalog())
    for key in [key for key in store.objects if key.startswith(keys_of(PRESENT[1]).prefix)]:
        del store.objects[key]
    publish(store, NEW[:1])
    assert walk_catalog(store).dangling == []
    assert PRESENT[1] not in walk_catalog(store).items


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_repair_with_a_cut_listing_of_folders_unlinks_no_child(share: float) -> None:
    store = MemoryStore()
    store.objects = dict(catalog())
    store.spoiled, store.kept_share = {"list": 0, "folders": 1}, share
    check_catalog(store, CONTEXT, repair=True, now=NOW)
    assert set(walk_catalog(store).items) == set(PRESENT)


def test_a_part_of_the_mirror_goes_where_it_is_absent_or_retired() -> None:
    store = MemoryStore()
    store.objects = dict(catalog())
    collection = decode_document(store.objects[COLLECTION_KEY], COLLECTION_KEY)
    store.spoiled["list"] = 1
    assert find_mirror_keys(store, collection) == (PART,)
    store.objects[f"{PART}.retired"] = b"{}"
    store.spoiled["list"] = 1
    assert find_mirror_keys(store, collection) == ()
    del store.objects[PART], store.objects[f"{PART}.retired"]
    assert find_mirror_keys(store, collection) == ()
