from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog.layout import (
    YearKeys,
    build_item_title,
    build_tile_title,
    build_year_title,
    build_zone_title,
)

days = st.dates(date(1000, 1, 1), date(2999, 12, 31))

TITLES = {
    "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T100849": "2018-12-14 13:32 Sentinel-2B R081",
    "S2C_MSIL2A_20250301T000001_R116_T01CDK_20250301T060000": "2025-03-01 00:00 Sentinel-2C R116",
    "S2A_MSIL2A_20190101T000001_N0211_R116_T58UFE_20190101T010000": "2019-01-01 00:00 Sentinel-2A R116",
    "S2A_MSIL1C_20190101T000001_N0207_R116_T58UFE_20190101T010000": "2019-01-01 00:00 Sentinel-2A R116",
    "S2B_22KFV_20181214_0_L2A": "2018-12-14 S2B_22KFV_20181214_0_L2A",
    "S2B_20181399_x": "S2B_20181399_x",
    "x123456789": "x123456789",
    "x_00010101": "x_00010101",
    "scene-1": "scene-1",
}


@pytest.mark.parametrize(("item_id", "title"), TITLES.items())
def test_an_item_s_title_begins_with_its_day(item_id: str, title: str) -> None:
    assert build_item_title(item_id) == title


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", fullmatch=True))
def test_any_id_has_a_title(item_id: str) -> None:
    assert build_item_title(item_id).endswith(item_id) or "Sentinel-2" in build_item_title(item_id)


@given(days, days)
def test_titles_sort_as_days_do(one: date, other: date) -> None:
    titles = [
        build_item_title(f"S2B_MSIL2A_{day:%Y%m%d}T133219_R081_T22KFV_20201008T100849")
        for day in (one, other)
    ]
    assert (titles[0] <= titles[1]) == (one <= other)


def test_catalogs_are_named_after_place_and_year() -> None:
    assert build_zone_title("22K") == "Zone 22, band K"
    assert build_tile_title("22KFV") == "Tile 22KFV"
    assert build_year_title(YearKeys("22KFV", 2018)) == "22KFV in 2018"
