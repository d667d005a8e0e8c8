from __future__ import annotations

from typing import Any

import pytest

from pc_cloudmask.catalog.layout import item_keys
from pc_cloudmask.catalog.search import PublishedItem
from pc_cloudmask.viewing.library import MonthOfTile, count_observations


def item(day: str, clear: float | None, nodata: float = 0.0, tile: str = "22KFV") -> PublishedItem:
    properties: dict[str, Any] = {"datetime": f"{day}T13:32:19Z", "cloudmask:nodata_percentage": nodata}
    if clear is not None:
        properties["cloudmask:clear_percentage"] = clear
    keys = item_keys(f"S2B_{day.replace('-', '')}", tile, int(day[:4]))
    return PublishedItem(keys, {"properties": properties})


def test_months_are_counted_apart_in_order_of_tile_and_time() -> None:
    items = [
        item("2019-01-02", 50, tile="33UUP"),
        item("2019-01-03", 95),
        item("2018-12-31", 90),
        item("2019-01-30", 10, nodata=50),
    ]
    assert count_observations(items, max_cloud_pct=20) == [
        MonthOfTile("22KFV", 2018, 12, scenes=1, cloud_free=1, clear_views=pytest.approx(0.9)),
        MonthOfTile("22KFV", 2019, 1, scenes=2, cloud_free=1, clear_views=pytest.approx(0.95 + 0.05)),
        MonthOfTile("33UUP", 2019, 1, scenes=1, cloud_free=0, clear_views=pytest.approx(0.5)),
    ]
    assert count_observations([]) == []


@pytest.mark.parametrize(("clear", "cloud_free"), [(79.99, 0), (80.0, 1), (100.0, 1)])
def test_the_limit_itself_is_cloud_free(clear: float, cloud_free: int) -> None:
    assert count_observations([item("2018-06-01", clear)], 20)[0].cloud_free == cloud_free


@pytest.mark.parametrize("max_cloud_pct", [0, 0.01, 7.3, 33.33, 100])
def test_a_limit_with_decimals_is_met_exactly(max_cloud_pct: float) -> None:
    assert count_observations([item("2018-06-01", round(100 - max_cloud_pct, 2))], max_cloud_pct)[
        0
    ].cloud_free


def test_a_scene_without_a_valid_pixel_is_no_clear_one() -> None:
    month = count_observations([item("2018-06-01", None, nodata=100)])[0]
    assert (month.scenes, month.cloud_free, month.clear_views) == (1, 0, 0)
