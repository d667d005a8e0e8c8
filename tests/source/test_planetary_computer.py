"""Searching a STAC API."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_cloudmask.errors import InvalidField, SettingsError, SourceRefused, SourceUnavailable
from pc_cloudmask.scene.geometry import build_box
from pc_cloudmask.scene.query import SceneQuery, build_query, parse_instant
from pc_cloudmask.source import paging as item_order
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.source.paging import MAX_ITEMS, PAGE_ITEMS, find_most_items, sort_stream
from pc_cloudmask.source.stac_api import IDS_AT_ONCE, PlanetaryComputerSource
from pc_cloudmask.web import RetryPolicy
from tests.catalog.items import make_source_item
from tests.doubles.stac_api import Fault, StacApiServer, make_item

COLLECTION = "sentinel-2-l2a"


def make_source(api: StacApiServer, deadline_s: float = 200, **retry: Any) -> PlanetaryComputerSource:
    policy = RetryPolicy(**{"attempts": 4, "sleep": lambda _: None} | retry)
    return PlanetaryComputerSource(api.url, COLLECTION, deadline_s, retry=policy)


def find_ids(api: StacApiServer, query: SceneQuery | None = None, **retry: Any) -> list[str]:
    return [item["id"] for item in make_source(api, **retry).find_items(query or SceneQuery())]


def make_items(count: int) -> list[Item]:
    """Items of 7 instants, ids in an order of their own, two tiles."""
    return [
        make_item(
            f"S2_{(i * 37) % count:05d}",
            f"2019-01-{1 + i % 7:02d}T10:00:00.024000Z",
            "22KFV" if i % 2 else "22KGV",
        )
        for i in range(count)
    ]


@pytest.fixture
def api() -> Iterator[StacApiServer]:
    with StacApiServer(make_items(30)) as server:
        yield server


def sort_key(item: Item) -> tuple[str, str]:
    return (item["properties"]["datetime"], item["id"])


@pytest.mark.parametrize("options", [{}, {"methods": ("GET",)}, {"without": ("sort", "query")}])
def test_all_pages_come_in_order(options: dict[str, Any]) -> None:
    items = make_items(2 * PAGE_ITEMS + 30)
    with StacApiServer(items, **options) as api:
        found = list(make_source(api).find_items(build_query(datetime="2019-01-02/2019-01-06")))
        assert len(api.searches) >= 2
    expected = [item for item in items if "2019-01-02" <= item["properties"]["datetime"] < "2019-01-07"]
    assert [item["id"] for item in found] == [item["id"] for item in sorted(expected, key=sort_key)]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), unique_by=lambda pair: pair[0]),
    st.integers(1, 8),
)
def test_a_limit_takes_the_first_in_order(pairs: list[tuple[int, int]], limit: int) -> None:
    items = [make_item(f"S2_{number}", f"2019-01-01T00:00:0{second}Z") for number, second in pairs]
    with StacApiServer(items) as api:
        found = find_ids(api, SceneQuery(limit=limit))
    assert found == [item["id"] for item in sorted(items, key=sort_key)][:limit]


def test_tiles_area_ids_interval_are_asked_of_the_api(api: StacApiServer) -> None:
    query = build_query(
        bbox="-51,-24,-48,-21", tiles=["22KFV"], datetime="2019-01-02", ids=[f"S2_{n:05d}" for n in range(20)]
    )
    found = find_ids(api, query)
    (search,) = api.searches
    assert search["query"] == {"s2:mgrs_tile": {"in": ["22KFV"]}}
    assert search["bbox"] == [-51, -24, -48, -21]
    assert search["datetime"] == "2019-01-02T00:00:00Z/2019-01-02T23:59:59.999999Z"
    assert search["collections"] == [COLLECTION]
    expected = [
        item["id"]
        for item in sorted(api.items, key=sort_key)
        if item["id"] in query.ids
        and item["properties"]["s2:mgrs_tile"] == "22KFV"
        and item["properties"]["datetime"].startswith("2019-01-02")
    ]
    assert found == expected
    assert found


def test_an_api_that_cannot_select_tiles_gives_them_all_and_we_select() -> None:
    with StacApiServer(make_items(30), without=("query",)) as api:
        found = list(make_source(api).find_items(SceneQuery(tiles=("22KGV",))))
    assert len(found) == 15
    assert {item["properties"]["s2:mgrs_tile"] for item in found} == {"22KGV"}


def test_a_box_across_the_antimeridian_finds_both_sides() -> None:
    items = [
        make_item("west", bbox=(178.5, -18.0, 179.5, -17.0)),
        make_item("east", bbox=(-179.9, -18.0, -179.0, -17.0)),
        make_item("far", bbox=(10.0, -18.0, 11.0, -17.0)),
    ]
    with StacApiServer(items) as api:
        assert find_ids(api, build_query(bbox="178,-19,-178,-16")) == ["east", "west"]


@pytest.mark.parametrize("limit", [None, 3])
def test_years_of_a_tile_are_asked_for_month_by_month_and_no_farther_than_the_limit(
    limit: int | None,
) -> None:
    items = [
        make_item(f"S2_{day:03d}", f"2018-{1 + day % 12:02d}-{1 + day % 28:02d}T10:00:00Z")
        for day in range(90)
    ]
    query = build_query(tiles=["22KFV"], datetime="2017/2018", limit=limit)
    with StacApiServer(items) as api:
        found = find_ids(api, query)
        assert len(api.searches) == 24 if limit is None else len(api.searches) < 15
        intervals = [search["datetime"].split("/") for search in api.searches]
        find_ids(api, build_query(bbox="-51,-24,-48,-21", tiles=["22KFV"], datetime="2017/2018"))
        assert api.searches[-1]["datetime"] == "2017-01-01T00:00:00Z/2018-12-31T23:59:59.999999Z"
    assert found == [item["id"] for item in sorted(items, key=sort_key)][:limit]
    for (_, end), (start, _) in pairwise(intervals):
        assert parse_instant(start) - parse_instant(end) == timedelta(microseconds=1)


def test_many_ids_are_asked_in_several_requests_and_come_in_order() -> None:
    items = make_items(IDS_AT_ONCE + 50)
    with StacApiServer(items) as api:
        found = find_ids(api, SceneQuery(ids=tuple(item["id"] for item in items)))
        assert max(len(search["ids"]) for search in api.searches) == IDS_AT_ONCE
    assert found == [item["id"] for item in sorted(items, key=sort_key)]


def test_an_id_comes_once(api: StacApiServer) -> None:
    api.items += api.items[:5]
    assert len(find_ids(api)) == 30


def test_an_empty_search_finds_nothing(api: StacApiServer) -> None:
    assert find_ids(api, build_query(datetime="1999")) == []


def test_signatures_are_taken_off(api: StacApiServer) -> None:
    api.items = [make_item()]
    href = api.items[0]["assets"]["SCL"]["href"]
    api.items[0]["assets"]["SCL"]["href"] += "?st=2020&se=2030&sp=rl&sig=s3cr3t"
    (item,) = make_source(api).find_items(SceneQuery())
    assert item["assets"]["SCL"]["href"] == href


def test_hrefs_that_begin_with_a_dot_are_relative_to_the_item(api: StacApiServer) -> None:
    item = make_item("S2_x")
    item["assets"]["SCL"]["href"] = "./S2_x/SCL.tif"
    item["assets"]["B08"]["href"] = "/etc/passwd"
    item["links"] = [{"rel": "self", "href": "../items/S2_x"}, 3]
    api.items = [item]
    (found,) = make_source(api).find_items(SceneQuery())
    base = f"{api.url}/collections/{COLLECTION}/items"
    assert found["assets"]["SCL"]["href"] == f"{base}/S2_x/SCL.tif"
    assert found["assets"]["B08"]["href"] == "/etc/passwd"
    assert found["links"][0]["href"] == f"{base}/S2_x"


def test_a_broken_item_is_passed_on_and_stops_no_other(api: StacApiServer) -> None:
    broken = [{"id": "undated"}, {"type": "Feature", "properties": None, "assets": 5}]
    api.faults.append(Fault(page={"features": [*broken, make_item("good"), {}]}))
    found = list(make_source(api).find_items(SceneQuery(tiles=("22KFV",))))
    assert [item.get("id") for item in found] == [None, "undated", "good"]


def test_waiting_follows_retry_after(api: StacApiServer) -> None:
    slept: list[float] = []
    api.faults.extend([Fault(429, headers={"Retry-After": "7"}), Fault(503), Fault(504), Fault(429)])
    assert len(find_ids(api, attempts=6, backoff_s=1.0, sleep=slept.append)) == 30
    assert slept[0] == 7.0
    for delay, backoff in zip(slept[1:], [2.0, 4.0, 8.0], strict=True):
        assert backoff / 2 <= delay <= backoff


@pytest.mark.parametrize("value", ["soon", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_retry_after_that_says_nothing_is_passed_over(api: StacApiServer, value: str) -> None:
    api.faults.append(Fault(429, headers={"Retry-After": value}))
    assert len(find_ids(api, sleep=lambda _: None)) == 30


def test_a_wait_beyond_the_deadline_is_not_begun(api: StacApiServer) -> None:
    api.faults.append(Fault(429, headers={"Retry-After": "3600"}))
    with pytest.raises(SourceUnavailable, match="HTTP 429, asks to wait 3600 s"):
        find_ids(api, sleep=pytest.fail)


def test_an_api_that_stays_down_is_unavailable(api: StacApiServer) -> None:
    api.faults.extend([Fault(503)] * 10)
    with pytest.raises(SourceUnavailable, match="/search: HTTP 503; gave up after 4 attempts"):
        find_ids(api)


def test_a_search_that_takes_too_long_is_told_to_be_smaller(api: StacApiServer) -> None:
    # The Planetary Computer's words.
    text = b"The request exceeded the maximum allowed time, please try again."
    api.faults.extend([Fault(504, text, "text/plain")] * 10)
    with pytest.raises(SourceUnavailable, match="HTTP 504; gave up after 4 attempts; ask for a shorter time"):
        find_ids(api)


def test_an_answer_later_than_the_deadline_is_none(api: StacApiServer) -> None:
    api.faults.extend([Fault(delay_s=600)] * 3)
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable, match="timed out"):
        list(make_source(api, deadline_s=0.3).find_items(SceneQuery()))
    assert time.monotonic() - begun < 600


def test_the_deadline_does_not_run_while_the_caller_works() -> None:
    with StacApiServer(make_items(PAGE_ITEMS + 30)) as api:
        found = make_source(api, deadline_s=0.6).find_items(SceneQuery())
        next(found)
        time.sleep(0.8)
        assert len(list(found)) == PAGE_ITEMS + 29


def test_an_unknown_collection_is_named(api: StacApiServer) -> None:
    source = PlanetaryComputerSource(api.url, "sentinel-2-l9z")
    with pytest.raises(SourceRefused, match="no collection 'sentinel-2-l9z'; check CLOUDMASK_COLLECTION"):
        list(source.find_items(SceneQuery()))


DEEP = b'{"features": ' + b"[" * 5000 + b"]" * 5000 + b"}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault(body=b"<!DOCTYPE html>", media_type="text/html"), "a web page: check CLOUDMASK_STAC_API_URL"),
        (Fault(body=b"{"), "not JSON"),
        (Fault(body=b"[]"), "not STAC"),
        (Fault(body=b'{"code": "error"}'), "not STAC"),
        (Fault(body=b'{"features": NaN}'), "no list of items"),
        (Fault(body=b'{"features": {"a": 1}}'), "no list of items"),
        (Fault(body=b'{"features": [{"id": "a"}], "links": 5}'), "no list of links"),
        (Fault(body=b'{"features": [{"id": "a"}], "links": [{"href": "x"}]}'), "not a STAC API's"),
        (Fault(body=b'\xff\xfe{"features": []}'), "not UTF-8"),
        (Fault(body=DEEP), "not JSON"),
        (Fault(body=b" " * (65 << 20)), "more than 67108864 bytes"),
        (Fault(400, b'{"description": "bad bbox"}'), "HTTP 400: .*bad bbox"),
        (Fault(401), "HTTP 401.*credentials"),
        (Fault(302, headers={"Location": "http://169.254.169.254/"}), "redirects to http://169.254.169.254/"),
        (Fault(302, headers={"Location": "/search"}), None),
    ],
)  # fmt: skip
def test_an_answer_that_breaks_a_rule_is_named(api: StacApiServer, fault: Fault, problem: str | None) -> None:
    api.faults.append(fault)
    if problem is None:
        # A redirect within the API repeats the request: with the same method, of the same server.
        assert len(find_ids(api)) == 30
        return
    with pytest.raises(SourceRefused, match=problem):
        find_ids(api)


def test_a_few_redirects_are_followed_and_no_endless_ones(api: StacApiServer) -> None:
    around = Fault(302, headers={"Location": "/search"})
    api.faults.extend([around] * 3)
    assert len(find_ids(api)) == 30
    api.faults.extend([around] * 4)
    with pytest.raises(SourceRefused, match="more than 3 redirects"):
        find_ids(api)


@pytest.mark.parametrize(
    "landing",
    [
        {}, {"type": "Catalog"}, {"type": "Catalog", "links": 3}, {"type": "Collection", "id": "x"},
        {"type": "Catalog", "id": "x", "stac_version": "1.0.0", "description": "static", "links": []},
        {"type": "Catalog", "id": [], "stac_version": {}, "description": 4, "links": [{}], "conformsTo": 7},
    ],
)  # fmt: skip
def test_a_landing_page_that_is_none_is_named(
    api: StacApiServer, monkeypatch: pytest.MonkeyPatch, landing: dict[str, Any]
) -> None:
    monkeypatch.setattr(api, "landing_page", lambda: landing)
    with pytest.raises(SourceRefused):
        find_ids(api)


def test_pages_of_another_server_are_not_followed(api: StacApiServer) -> None:
    with StacApiServer(make_items(5)) as other:
        link = {"rel": "next", "href": f"{other.url}/search", "method": "POST", "body": {}}
        api.faults.append(Fault(page={"links": [link]}))
        with pytest.raises(SourceRefused, match="another server: not followed"):
            find_ids(api)
        assert other.requests == []


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "/etc/passwd", "ftp://127.0.0.1/", "next", "http://[", ""]
)
def test_pages_that_are_no_pages_are_not_followed(api: StacApiServer, href: str) -> None:
    api.faults.append(Fault(page={"links": [{"rel": "next", "href": href}]}))
    with pytest.raises(SourceRefused):
        find_ids(api)


def test_pages_that_repeat_for_ever_end(api: StacApiServer) -> None:
    link = {"rel": "next", "href": f"{api.url}/search", "method": "POST", "body": {"limit": 50}}
    api.faults.extend([Fault(page={"links": [link]})] * 50)
    with pytest.raises(SourceRefused, match="repeats its pages"):
        find_ids(api)
    assert len(api.searches) == 2


class EndlessApi(StacApiServer):
    """Every page has items of its own and leads to a next one; ``instants`` apart, or of one instant."""

    advance_s = 60

    def search(self, query: dict[str, Any], method: str) -> dict[str, Any]:
        start, size = int(query.get("token") or 0), int(query.get("limit") or 10)
        moments = [
            datetime(2019, 1, 1, tzinfo=UTC) + timedelta(seconds=self.advance_s * n)
            for n in range(start, start + size)
        ]
        features = [make_item(f"S2_{start + n}", f"{at:%Y-%m-%dT%H:%M:%S}Z") for n, at in enumerate(moments)]
        following = {**query, "token": str(start + size)}
        link = {"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": following}
        return {"type": "FeatureCollection", "features": features, "links": [link]}


@pytest.mark.parametrize(
    ("query", "most"),
    [
        (build_query(tiles=["22KFV"], datetime="2019-01-01"), 1020),
        (build_query(ids=["S2_3", "S2_5"]), 1020),
        (build_query(bbox="-50.1,-23.1,-50,-23", datetime="2019-01-01"), 1000 + 10 * 2 * 18),
    ],
)
def test_fresh_pages_without_end_are_ended(query: SceneQuery, most: int) -> None:
    with EndlessApi() as api:
        with pytest.raises(SourceRefused, match=f"gives more than {most} items"):
            find_ids(api, query)
        assert len(api.searches) <= most / PAGE_ITEMS + 1


def test_items_of_one_instant_without_end_are_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndlessApi, "advance_s", 0)
    monkeypatch.setattr(item_order, "MAX_COLLECTED_ITEMS", 300)
    with EndlessApi() as api, pytest.raises(SourceRefused, match="more than 300 items of one instant"):
        find_ids(api, build_query(tiles=["22KFV"], datetime="2019", limit=3))


def test_a_year_of_a_region_is_within_the_bound() -> None:
    """Of 300 tiles three passes a week each; of one tile at 80 N six a day."""
    year = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 12, 31, tzinfo=UTC))
    region = build_query(bbox="-60,-30,-45,-12")
    assert find_most_items(region, None, year) > 300 * 3 * 53
    assert find_most_items(build_query(tiles=["33XWJ"]), None, year) > 6 * 366
    assert find_most_items(build_query(bbox="179,-11,-179,-10"), None, year) < MAX_ITEMS / 2
    assert find_most_items(build_query(bbox="-180,-90,180,90"), None, year) == MAX_ITEMS
    point = build_query(intersects='{"type": "Point", "coordinates": [-49.5, -22.5]}')
    assert find_most_items(point, None, year) < MAX_ITEMS / 2
    earth = build_query(intersects=json.dumps(build_box(-180, -90, 180, 90)))
    assert find_most_items(earth, None, year) == MAX_ITEMS


NOT_A_NUMBER = [b"NaN", b"Infinity", b"-Infinity", b'"\\ud800"']


@pytest.mark.parametrize("value", NOT_A_NUMBER)
def test_a_value_that_json_has_not_costs_its_item_alone(api: StacApiServer, value: bytes) -> None:
    items = [make_source_item() | {"id": item_id} for item_id in ("bad", "good")]
    items[0]["properties"]["s2:water_percentage"] = "HERE"
    page = json.dumps({"type": "FeatureCollection", "features": items}).encode()
    api.faults.append(Fault(body=page.replace(b'"HERE"', value)))
    bad, good = make_source(api).find_items(SceneQuery())
    assert read_scene(good).id == "good"
    with pytest.raises(
        InvalidField, match=r"item bad: (properties.s2:water_percentage is NaN|item is no JSON)"
    ):
        read_scene(bad)


def test_what_is_no_item_costs_no_other(api: StacApiServer) -> None:
    api.faults.append(Fault(page={"features": [1, None, make_item("good"), []]}))
    assert [item.get("id") for item in make_source(api).find_items(SceneQuery())] == [None, "good"]


def test_a_million_assets_are_cut_where_they_come_in(api: StacApiServer) -> None:
    item = make_source_item()
    item["assets"] |= {f"a{number}": {"href": "a.tif"} for number in range(20_000)}
    api.faults.append(Fault(page={"features": [item]}))
    (found,) = make_source(api).find_items(SceneQuery())
    assert len(found["assets"]) == 1001
    with pytest.raises(InvalidField, match="assets are more than 1000"):
        read_scene(found)


def test_pages_out_of_order_are_put_in_order(api: StacApiServer) -> None:
    newest_first = sorted(api.items, key=sort_key, reverse=True)
    api.faults.append(Fault(page={"features": newest_first}))
    assert find_ids(api) == [item["id"] for item in reversed(newest_first)]


def test_an_api_that_says_it_sorts_and_does_not_is_named(api: StacApiServer) -> None:
    newest_first = sorted(api.items, key=sort_key, reverse=True)
    api.faults.append(Fault(page={"features": [*newest_first[15:], *newest_first[:15]]}))
    with pytest.raises(SourceRefused, match="does not sort by datetime"):
        find_ids(api, SceneQuery(limit=25))


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), unique=True, max_size=30),
    st.integers(0, 8),
    st.randoms(use_true_random=False),
)
def test_a_stream_is_sorted_or_refused(pairs: list[tuple[int, int]], held: int, random: Any) -> None:
    items = [make_item(f"S2_{number}", f"2019-01-01T00:00:0{second}Z") for second, number in pairs]
    ordered = sorted(items, key=sort_key)
    random.shuffle(items)
    by_datetime = sorted(items, key=lambda item: item["properties"]["datetime"])
    assert list(sort_stream(by_datetime, held)) == ordered
    assert list(sort_stream(items, held=30)) == ordered
    with contextlib.suppress(SourceRefused):
        assert list(sort_stream(items, held)) == ordered


def test_where_assets_may_be_read_follows_the_api() -> None:
    remote = PlanetaryComputerSource("https://stac.example.org/v1", COLLECTION)
    assert remote.asset_hosts == PLANETARY_COMPUTER_HOSTS | {"stac.example.org"}
    assert not remote.allow_loopback
    assert PlanetaryComputerSource("http://127.0.0.1:8080", COLLECTION).allow_loopback
    with pytest.raises(SettingsError, match="plain http is for loopback only"):
        PlanetaryComputerSource("http://stac.example.org", COLLECTION)


def test_a_query_for_a_box_and_a_geometry_is_refused(api: StacApiServer) -> None:
    geometry = {"type": "Point", "coordinates": [0, 0]}
    with pytest.raises(SettingsError, match="not both"):
        find_ids(api, SceneQuery(bbox=(0, 0, 1, 1), intersects=geometry))


@pytest.mark.shared
def test_real_items_come_unchanged(shared_data: Any) -> None:
    items = [json.loads(path.read_text()) for path in sorted((shared_data / "pc-items").glob("S2*.json"))]
    with StacApiServer(items) as api:
        found = list(make_source(api).find_items(build_query(bbox="-150,60,-146,62")))
    assert found == [item for item in items if item["properties"]["s2:mgrs_tile"] == "06VVN"]
