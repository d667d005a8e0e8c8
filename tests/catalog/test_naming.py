"""Items named by less than their id."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import orjson
import pytest

from pc_cloudmask.catalog.layout import (
    AmbiguousItem,
    choose_same,
    join_tiles_and_days,
    match_name,
    parse_tile_and_day,
)
from pc_cloudmask.catalog.search import find_named_keys
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.storage.local import LocalStore
from tests.published_demo import copy_catalog

JUNE = "S2B_MSIL2A_20180617T133221_R081_T22KFV_20180617T235959"
DECEMBER = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959"
BAVARIA = "S2A_MSIL2A_20210910T101031_R022_T33UUP_20210910T235959"
IDS = [JUNE, DECEMBER, BAVARIA, "any_T22KFV_20181214", "any_T22KFV_20181214_2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DECEMBER, [DECEMBER]),
        (DECEMBER.replace("_R081", "_N0211_R081"), [DECEMBER]),
        (f"https://example.com/a/{DECEMBER}.json", [DECEMBER]),
        ("S2B_MSIL2A_2018", [JUNE, DECEMBER]),
        ("S2B_MSIL2A_20181214T133219_N0211_R0", [DECEMBER]),
        ("S2A", [BAVARIA]),
        ("any_T22KFV_20181214", ["any_T22KFV_20181214"]),
        ("any_T22KFV_20181214_", ["any_T22KFV_20181214_2"]),
        ("22KFV 2018-12-14", [DECEMBER, "any_T22KFV_20181214", "any_T22KFV_20181214_2"]),
        ("t33uup/20210910", [BAVARIA]),
        ("33UUP 2021-09-11", []),
        ("S2C", []),
    ],
)
def test_what_a_text_names(text: str, expected: list[str]) -> None:
    assert match_name(text, IDS) == sorted(expected)


def test_words_that_are_one_name() -> None:
    words = ["22KFV", "2018-12-14", "S2A", "33UUP", "20210910", "2018-12-14", "22KFV"]
    assert join_tiles_and_days(words) == ["22KFV 2018-12-14", "S2A", "33UUP 20210910", "2018-12-14", "22KFV"]
    assert parse_tile_and_day("22KFV 2018-12-14") == ("22KFV", date(2018, 12, 14))
    for text in ("22KFV", "99ZZZ 2018-12-14", "22KFV 2018-13-14", "22KFV2018-12-14", DECEMBER):
        assert parse_tile_and_day(text) is None


def test_several_are_listed_in_one_line() -> None:
    many = [f"{DECEMBER[:-2]}{number:02d}" for number in range(12)]
    with pytest.raises(AmbiguousItem) as caught:
        choose_same(many, "S2B")
    assert str(caught.value).startswith(f"ITEM 'S2B' may be any of 12: {many[0]}, {many[1]},")
    assert str(caught.value).endswith(f"{many[4]} and 7 more: write more of the id")
    with_baseline = DECEMBER.replace("_R081", "_N0211_R081")
    assert list(choose_same([DECEMBER, with_baseline], DECEMBER)) == [DECEMBER, with_baseline]


def test_published_items_are_found_by_less_than_their_id(out: Path) -> None:
    store = LocalStore(out)
    for text in (DECEMBER, DECEMBER[:20], "22KFV 2018-12-14", "22KFV/20181214", f"{DECEMBER}.SAFE"):
        assert find_named_keys(store, text).item_id == DECEMBER
    with pytest.raises(AmbiguousItem, match="of 3"):
        find_named_keys(store, "S2B")
    with pytest.raises(StoreRefused, match="nothing of 22KFV 2018-12-15 is published there"):
        find_named_keys(store, "22KFV 2018-12-15")
    with pytest.raises(StoreRefused, match="not published"):
        find_named_keys(store, "22KFV")
    with pytest.raises(SettingsError, match="no item's id"):
        find_named_keys(store, "S2B*")


def test_the_day_may_be_the_datatakes_or_the_items_own(out: Path, tmp_path: Path) -> None:
    """Where it is morning, it may be midnight in UTC between the datatake's start and the tile."""
    root = copy_catalog(out, tmp_path / "store")
    (path,) = (root / "sentinel-2-l2a-cloudmask").rglob(f"{DECEMBER}.json")
    document = orjson.loads(path.read_bytes())
    document["properties"]["datetime"] = "2018-12-15T00:00:07Z"
    path.write_bytes(orjson.dumps(document))
    for day in ("2018-12-14", "2018-12-15"):
        assert find_named_keys(LocalStore(root), f"22KFV {day}").item_id == DECEMBER
    with pytest.raises(StoreRefused):
        find_named_keys(LocalStore(root), "22KFV 2018-12-16")


def test_other_catalogs_are_not_read(out: Path, tmp_path: Path) -> None:
    root = copy_catalog(out, tmp_path / "store")
    collection = root / "sentinel-2-l2a-cloudmask"
    for path in [*(collection / "33U").rglob("*.json"), *(collection / "22K").rglob("S2*.json")]:
        path.write_text("broken")
    for text in ("22KFV 2018-12-14", DECEMBER[:-3]):
        assert find_named_keys(LocalStore(root), text).item_id == DECEMBER
