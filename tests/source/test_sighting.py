"""Which scene an item is of, whichever catalogue made it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.errors import ItemError, MissingField
from pc_cloudmask.source.fields import SENSING, find_scene_key, find_tile, read_sighting
from tests.doubles.stac_api.catalogues import Pass, make_copernicus, make_earth_search, make_planetary

START = datetime(2018, 12, 14, 13, 32, 19, tzinfo=UTC)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("tile", ["22KFV", "01CCV"])
@pytest.mark.parametrize("make", [make_planetary, make_earth_search, make_copernicus])
def test_every_catalogue_tells_the_same_scene(make: Any, tile: str) -> None:
    sighting = read_sighting(make(Pass(tile, START)))
    assert (sighting.platform, sighting.tile, sighting.start) == ("S2B", tile, START)
    assert sighting.strip == "20181214T133219"


def test_an_item_of_the_first_earth_search_tells_its_product() -> None:
    properties = {
        "datetime": "2017-01-28T11:33:22Z",
        "platform": "sentinel-2a",
        "created": "2020-09-18T06:14:23.388Z",
        "sentinel:utm_zone": 29,
        "sentinel:latitude_band": "T",
        "sentinel:grid_square": "NG",
        "sentinel:product_id": "S2A_MSIL2A_20170128T113321_N0001_R080_T29TNG_20190506T060629",
    }
    sighting = read_sighting({"id": "S2A_29TNG_20170128_0_L2A", "properties": properties})
    assert (sighting.tile, sighting.start) == ("29TNG", datetime(2017, 1, 28, 11, 33, 21, tzinfo=UTC))
    assert (sighting.told, sighting.since.year) == ("created", 2020)


def test_an_id_alone_tells_platform_and_tile() -> None:
    moment = "2018-12-14T13:39:31.327Z"
    for item_id in ("S2B_1CCV_20181214_0_L2A", "S2B_T01CCV_20181214T133217_L2A"):
        sighting = read_sighting({"id": item_id, "properties": {"datetime": moment}})
        assert (sighting.platform, sighting.tile, sighting.start) == ("S2B", "01CCV", None)
        assert sighting.told == SENSING


@pytest.mark.parametrize("told", ["published", "created", "updated"])
def test_since_when_is_the_first_that_is_told(told: str) -> None:
    item = make_copernicus(Pass("22KFV", START))
    for name in ("published", "created", "updated"):
        if name == told:
            break
        item["properties"][name] = "no instant"
    sighting = read_sighting(item)
    assert sighting.told == told
    assert sighting.since > START + timedelta(days=1000)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(MissingField, match="s2:mgrs_tile or grid:code, datetime are missing"):
        read_sighting({"id": "x", "properties": {"platform": "Sentinel-2B", "grid:code": "MGRS-99ZZZ"}})


def test_the_key_of_a_products_id() -> None:
    for baseline in ("", "N0500_"):
        item_id = f"S2B_MSIL2A_20181214T133219_{baseline}R081_T22KFV_20201008T100849"
        assert find_scene_key(item_id) == ("22KFV", START, "S2B")
    assert find_scene_key("S2B_22KFV_20181214_0_L2A") is None
    assert find_scene_key("S2B_MSIL2A_20189914T133219_R081_T22KFV_20201008T100849") is None


def test_real_items_tell_their_scene(shared_data: Path) -> None:
    for path in (shared_data / "pc-items").glob("S2*.json"):
        sighting = read_sighting(json.loads(path.read_text()))
        assert find_scene_key(path.stem) == (sighting.tile, sighting.start, sighting.platform)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["id", "properties", "x"]), json_values), json_values, json_values)
def test_any_json_is_a_scene_or_an_error_of_the_item(item: Any, tile: Any, moment: Any) -> None:
    names = ("s2:mgrs_tile", "platform", "mgrs:utm_zone")
    for made in (item, {**item, "properties": {"datetime": moment, **dict.fromkeys(names, tile)}}):
        find_tile(made)
        try:
            read_sighting(made)
        except ItemError:
            continue
