"""Coverages merge as sets do, so the order of publishing leaves no trace in the collection."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog.documents import (
    LISTED,
    MEASURED,
    Coverage,
    build_collection,
    read_collection_coverage,
    read_coverage,
)
from pc_cloudmask.catalog.fields import CatalogContext, decode_document, encode_document
from tests.catalog.items import derive, make_source_item, set_at

CONTEXT = CatalogContext()

degrees_east = st.floats(-180, 180) | st.integers(-180, 180) | st.just(-0.0)
degrees_north = st.floats(-90, 90) | st.integers(-90, 90) | st.just(-0.0)
percentages = st.floats(0, 100) | st.integers(0, 100) | st.just(-0.0)
instants = st.datetimes().map(lambda moment: f"{moment.isoformat()}Z") | st.sampled_from(
    ["2018-12-14T13:32:19Z", "2018-12-14T13:32:19.024Z", "2018-12-14T13:32:19.024000+00:00"]
)
texts = st.sampled_from(["Sentinel-2A", "Sentinel-2B", "02.12", "05.11", "EPSG:32722", "é"])
anything = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.lists(st.integers(), max_size=2), st.just(10**400)
)


@st.composite
def published_items(draw: st.DrawFn) -> dict[str, Any]:
    south, north = sorted([draw(degrees_north), draw(degrees_north)])
    west, east = draw(degrees_east), draw(degrees_east)
    bbox = [west, south, east, north] if draw(st.booleans()) else [west, south, -5, east, north, 5]
    properties: dict[str, Any] = {"datetime": draw(instants), "cloudmask:method": "csmask"}
    for name in LISTED[2:]:
        properties[name] = draw(texts | anything)
    for name in MEASURED:
        properties[name] = draw(percentages | anything)
    properties["s2:mgrs_tile"] = draw(st.sampled_from(["22KFV", "22KGV", "33UUP"]) | anything)
    return {"bbox": bbox, "properties": properties}


def merge(coverages: Iterable[Coverage]) -> Coverage:
    return reduce(Coverage.merge, coverages)


def encode(coverage: Coverage) -> bytes:
    return encode_document(build(coverage))


def build(coverage: Coverage) -> dict[str, Any]:
    """The collection, its zones and bands linked: their links hold the boxes."""
    return build_collection(CONTEXT, ["22K", *coverage.boxes], coverage)


@pytest.mark.slow
@given(st.lists(published_items(), min_size=1, max_size=4))
def test_neither_order_nor_repetition_changes_a_byte(items: list[dict[str, Any]]) -> None:
    coverages = [read_coverage(item) for item in items]
    expected = encode(merge(coverages))
    assert all(encode(merge(order)) == expected for order in permutations(coverages))
    assert encode(merge([*coverages, *coverages])) == expected


@pytest.mark.slow
@given(published_items(), published_items(), published_items())
def test_merging_is_associative(one: Any, two: Any, three: Any) -> None:
    a, b, c = map(read_coverage, (one, two, three))
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(a) == a
    assert a.merge(b) == b.merge(a)


@pytest.mark.slow
@given(st.lists(published_items(), min_size=1, max_size=4))
def test_a_merged_coverage_is_the_least_that_holds_all(items: list[dict[str, Any]]) -> None:
    coverages = [read_coverage(item) for item in items]
    merged = merge(coverages)
    starts, ends = zip(*(each.interval for each in coverages), strict=True)
    assert merged.interval == (min(starts), max(ends))
    for name in MEASURED:
        spans = [each.ranges[name] for each in coverages if name in each.ranges]
        least, greatest = (
            f(span[end] for span in spans) if spans else None for end, f in enumerate((min, max))
        )
        assert merged.ranges.get(name, (None, None)) == (least, greatest)
    for name in LISTED:
        assert merged.values.get(name, frozenset()) == frozenset().union(
            *(each.values.get(name, frozenset()) for each in coverages)
        )
    for box, parts in [(merged.bbox, [each.bbox for each in coverages])] + [
        (merged.boxes[zone], [each.boxes[zone] for each in coverages if zone in each.boxes])
        for zone in merged.boxes
    ]:
        west, south, east, north = zip(*parts, strict=True)
        assert box == (min(west), min(south), max(east), max(north))


@pytest.mark.slow
@given(st.lists(published_items(), min_size=1, max_size=3))
def test_the_collection_says_what_it_was_built_with(items: list[dict[str, Any]]) -> None:
    coverage = merge(map(read_coverage, items))
    collection = build(coverage)
    assert read_collection_coverage(collection) == coverage
    read = decode_document(encode_document(collection), "collection")
    assert read_collection_coverage(read) == coverage
    assert encode(coverage) == encode_document(collection)


@pytest.mark.slow
@given(st.lists(published_items(), min_size=2, max_size=4))
def test_publishing_one_by_one_ends_as_publishing_at_once(items: list[dict[str, Any]]) -> None:
    coverages = [read_coverage(item) for item in items]
    collection = build(coverages[0])
    for coverage in coverages[1:]:
        known = read_collection_coverage(collection)
        assert known is not None
        collection = build(known.merge(coverage))
    assert collection == build(merge(coverages))


@pytest.mark.slow
@given(published_items())
def test_every_item_lies_within_its_coverage(item: dict[str, Any]) -> None:
    west, south, east, north = read_coverage(item).bbox
    bbox = item["bbox"]
    item_west, item_south, item_east, item_north = bbox[0], bbox[1], bbox[len(bbox) // 2], bbox[-1]
    if len(bbox) == 6:
        item_east, item_north = bbox[3], bbox[4]
    assert west <= min(item_west, item_east) <= max(item_west, item_east) <= east
    assert (south, north) == (item_south, item_north)
    if item_west > item_east:
        assert (west, east) == (-180, 180)


def test_a_derived_item_covers_what_it_says() -> None:
    coverage = read_coverage(derive())
    assert coverage.bbox == (-50.02707, -23.41641, -49.04309, -22.59466)
    assert coverage.interval == ("2018-12-14T13:32:19.024000Z",) * 2
    assert coverage.values == {
        "platform": {"Sentinel-2B"},
        "cloudmask:method": {"s2cloudless"},
        "s2:processing_baseline": {"02.12"},
        "proj:code": {"EPSG:32722"},
    }
    assert coverage.ranges == {
        "cloudmask:cloud_percentage": (23.41, 23.41),
        "cloudmask:shadow_percentage": (3.72, 3.72),
        "cloudmask:clear_percentage": (72.87, 72.87),
        "cloudmask:nodata_percentage": (0.03, 0.03),
        "eo:cloud_cover": (38.291, 38.291),
    }
    assert coverage.boxes == {"22K": coverage.bbox}


def test_far_apart_each_zone_and_band_has_a_box_of_its_own() -> None:
    """One box around Brazil and Bavaria would be mostly ocean: STAC Browser draws those behind the first."""
    here = read_coverage(derive())
    far = set_at(derive(), ("bbox",), [12.0, 47.7, 13.4, 48.7])
    there = read_coverage(set_at(far, ("properties", "s2:mgrs_tile"), "33UUP"))
    collection = build(here.merge(there))
    whole, *boxes = collection["extent"]["spatial"]["bbox"]
    assert whole == [-50.02707, -23.41641, 13.4, 48.7]
    assert boxes == [list(here.bbox), list(there.bbox)]
    assert build(here)["extent"]["spatial"]["bbox"] == [list(here.bbox)]


@pytest.mark.parametrize("year", [1, 999, 2018, 9999])
def test_instants_sort_as_texts_in_every_year(year: int) -> None:
    item = set_at(derive(), ("properties", "datetime"), f"{year:04d}-01-01T00:00:00Z")
    assert read_coverage(item).interval[0] == f"{year:04d}-01-01T00:00:00.000000Z"


def test_what_a_source_says_wrongly_poisons_no_collection() -> None:
    source = make_source_item()
    source["properties"] |= {"eo:cloud_cover": "38", "s2:processing_baseline": "02.12"}
    poisoned, sound = read_coverage(derive(source)), read_coverage(derive())
    assert "eo:cloud_cover" not in poisoned.ranges
    assert poisoned.merge(sound).ranges["eo:cloud_cover"] == (38.291, 38.291)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("bbox",), [1, 2, 3]),
        (("bbox",), ["a", "b", "c", "d"]),
        (("bbox",), None),
        (("properties", "datetime"), "yesterday"),
        (("properties", "datetime"), None),
        (("properties",), None),
    ],
)
def test_an_item_without_place_or_time_is_said_so(path: tuple[str, ...], value: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        read_coverage(set_at(derive(), path, value))


def test_a_collection_of_nothing_covers_nothing() -> None:
    assert read_collection_coverage(build_collection(CONTEXT, [], None)) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("extent",), None),
        (("extent", "temporal", "interval"), []),
        (("extent", "temporal", "interval", 0), ["2018", "2019"]),
        (("extent", "spatial", "bbox", 0), ["west", 0, 1, 2]),
        (("summaries",), None),
        (("summaries", "platform"), [1, 2]),
        (("summaries", "eo:cloud_cover"), {"minimum": "none", "maximum": 3}),
        (("summaries", "eo:cloud_cover"), [1, 2]),
        (("links",), None),
        (("links", -1, "bbox"), [1, 2]),
    ],
)
def test_a_collection_that_somebody_broke_covers_nothing(path: tuple[str | int, ...], value: Any) -> None:
    collection = build(read_coverage(derive()))
    collection["links"] = [link for link in collection["links"] if link["rel"] == "child"]
    assert read_collection_coverage(set_at(collection, path, value)) is None
