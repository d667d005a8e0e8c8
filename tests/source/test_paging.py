"""A search is complete only where something proves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pc_cloudmask.errors import SourceRefused, SourceUnavailable
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.paging import MAX_EMPTY_PAGES, PAGE_ITEMS
from tests.doubles.stac_api import StacApiServer, make_item
from tests.source.test_planetary_computer import find_ids

Page = dict[str, Any]
#: What an API makes of a right page, which it was asked for by a query.
Twist = Callable[[Page, Page], Page]


class TwistedApi(StacApiServer):
    """Gives pages of at most ``most`` items, whatever is asked for, each one twisted."""

    twist: Twist = staticmethod(lambda page, _query: page)
    most = 10_000

    def search(self, query: Page, method: str) -> Page:
        limit = min(self.most, int(query.get("limit") or 10))
        page = super().search({**query, "limit": limit}, method)
        for link in page["links"]:
            if "body" in link:
                link["body"]["limit"] = query.get("limit")
        return type(self).twist(page, query)


def make_api(items: list[Item], twist: Twist, most: int = 10_000, **options: Any) -> TwistedApi:
    kind = type("Api", (TwistedApi,), {"twist": staticmethod(twist), "most": most})
    api: TwistedApi = kind(items, **options)
    return api


def make_items(count: int, at_once: int = 3) -> list[Item]:
    """Items of which ``at_once`` each were taken at one instant, a minute apart."""
    minutes = [index // at_once for index in range(count)]
    return [
        make_item(f"S2_{number:05d}", f"2019-01-01T{minute // 60:02d}:{minute % 60:02d}:00.024000Z")
        for number, minute in enumerate(minutes)
    ]


def drop_links(page: Page, _query: Page) -> Page:
    return {**page, "links": []}


def tell_matched(matched: Any, **further: Any) -> Twist:
    return lambda page, _query: {**page, "links": [], "numberMatched": matched, **further}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("most", [10, 20, 50, 100, 250, 10_000])
@pytest.mark.parametrize(
    "query", [SceneQuery(), build_query(datetime="2019-01"), build_query(tiles=["22KFV"])]
)
def test_a_full_page_without_a_link_is_not_the_end(query: SceneQuery, most: int, method: str) -> None:
    items = make_items(260)
    with make_api(items, drop_links, most, methods=(method,)) as api:
        assert find_ids(api, query) == [item["id"] for item in items]


def lead_nowhere(page: Page, _query: Page) -> Page:
    links = [{**link, "href": link["href"].replace("/search", "/elsewhere")} for link in page["links"]]
    return {**page, "links": links}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("most", [7, 100, 250])
def test_a_link_that_leads_nowhere_loses_no_item(most: int, method: str) -> None:
    items = make_items(260)
    with make_api(items, lead_nowhere, most, methods=(method,)) as api:
        assert find_ids(api, SceneQuery()) == [item["id"] for item in items]


def test_a_link_that_leads_nowhere_of_an_api_that_does_not_sort_is_no_end() -> None:
    with (
        make_api(make_items(20), lead_nowhere, most=7, without=("sort",)) as api,
        pytest.raises(SourceUnavailable, match=r"next page that is not there after 7 items"),
    ):
        find_ids(api, SceneQuery())


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_link_that_is_lost_on_the_way_loses_no_item(lost: int) -> None:
    pages: list[int] = []

    def lose(page: Page, _query: Page) -> Page:
        pages.append(len(page["features"]))
        return drop_links(page, _query) if len(pages) == lost else page

    items = make_items(230)
    with make_api(items, lose, most=50) as api:
        assert len(find_ids(api)) == 230


@pytest.mark.parametrize("count", [1, 7, 99, 249])
def test_a_page_with_room_for_more_is_the_end_and_costs_no_request(count: int) -> None:
    with make_api(make_items(count), drop_links) as api:
        assert len(find_ids(api)) == count
        assert len(api.searches) == 1


@pytest.mark.parametrize("count", [10, 50, PAGE_ITEMS])
def test_as_many_as_fit_a_page_are_all_once_the_api_says_nothing_follows(count: int) -> None:
    with make_api(make_items(count), drop_links) as api:
        assert len(find_ids(api)) == count
        assert len(api.searches) == 2


def test_more_items_of_an_instant_than_a_page_holds_are_asked_for_at_once() -> None:
    with make_api(make_items(700, at_once=600), drop_links) as api:
        assert len(find_ids(api)) == 700


@pytest.mark.parametrize("most", [PAGE_ITEMS, 1000])
def test_more_items_of_an_instant_than_can_be_had_are_not_passed_over(most: int) -> None:
    with (
        make_api(make_items(1100, at_once=1100), drop_links, most) as api,
        pytest.raises(SourceUnavailable, match="there may be more"),
    ):
        find_ids(api)


def test_an_api_that_does_not_sort_is_not_taken_to_be_complete() -> None:
    with make_api(make_items(300), drop_links, without=("sort",)) as api:
        with pytest.raises(SourceUnavailable, match="there may be more"):
            find_ids(api)
        assert len(find_ids(api, build_query(datetime="2019-01-01T00:00:00Z/2019-01-01T01:00:00Z"))) == 183


def test_an_api_that_says_it_sorts_and_does_not_is_not_taken_to_be_complete() -> None:
    def mix(page: Page, _query: Page) -> Page:
        return {**page, "features": page["features"][::-1], "links": []}

    with make_api(make_items(300), mix) as api, pytest.raises(SourceUnavailable, match="there may be more"):
        find_ids(api)


def test_an_api_that_answers_nothing_when_asked_on_proves_nothing() -> None:
    def forget(page: Page, query: Page) -> Page:
        return {**page, "links": [], "features": [] if query.get("datetime") else page["features"]}

    with (
        make_api(make_items(300), forget) as api,
        pytest.raises(SourceUnavailable, match="asked for the rest"),
    ):
        find_ids(api)


@pytest.mark.parametrize("limit", [1, 5, 300])
def test_a_limit_is_kept_without_links(limit: int) -> None:
    items = make_items(400, at_once=1)
    with make_api(items, drop_links) as api:
        assert find_ids(api, SceneQuery(limit=limit)) == [item["id"] for item in items[:limit]]


@pytest.mark.parametrize(
    "twist",
    [
        tell_matched(31),
        tell_matched(None, context={"matched": 31, "returned": 30}),
        tell_matched(31, features=[]),
        tell_matched(30, context={"matched": 31}),
    ],
)
@pytest.mark.parametrize("options", [{}, {"without": ("sort",)}])
def test_fewer_items_than_the_api_says_match_are_no_complete_answer(
    twist: Twist, options: dict[str, Any]
) -> None:
    with (
        make_api(make_items(30), twist, **options) as api,
        pytest.raises(SourceUnavailable, match="31 items match"),
    ):
        find_ids(api)


@pytest.mark.parametrize("matched", ["31", True, 30.5, None, [31], -1])
def test_a_count_that_is_none_is_passed_over(matched: Any) -> None:
    with make_api(make_items(30), tell_matched(matched, context=[1])) as api:
        assert len(find_ids(api)) == 30


def test_items_that_come_twice_do_not_make_up_for_those_that_are_missing() -> None:
    items = make_items(30)

    def repeat(page: Page, _query: Page) -> Page:
        return {**page, "links": [], "numberMatched": 33, "features": page["features"] + items[:3]}

    with make_api(items, repeat) as api, pytest.raises(SourceUnavailable, match="33 items match, gives 30"):
        find_ids(api)


def test_the_count_proves_that_an_unsorted_full_page_is_the_last() -> None:
    with make_api(make_items(PAGE_ITEMS), tell_matched(PAGE_ITEMS), without=("sort",)) as api:
        assert len(find_ids(api)) == PAGE_ITEMS


@pytest.mark.parametrize("empty", [1, 3, MAX_EMPTY_PAGES])
def test_an_empty_page_with_a_link_is_followed(empty: int) -> None:
    def hesitate(page: Page, query: Page) -> Page:
        waited = int(query.get("waited") or 0)
        if waited >= empty:
            return page
        following = {**query, "waited": waited + 1}
        link = {"rel": "next", "href": f"{api.url}/search", "method": "POST", "body": following}
        return {**page, "features": [], "links": [link]}

    with make_api(make_items(30), hesitate) as api:
        assert len(find_ids(api)) == 30


def test_empty_pages_without_end_are_ended() -> None:
    def wait(page: Page, query: Page) -> Page:
        link = {"rel": "next", "href": f"{api.url}/search", "method": "POST", "body": query}
        return {**page, "features": [], "links": [link]}

    with make_api([], wait) as api, pytest.raises(SourceRefused, match="repeats its pages"):
        find_ids(api)
    assert len(api.searches) == MAX_EMPTY_PAGES + 1
