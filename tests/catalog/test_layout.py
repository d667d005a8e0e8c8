"""Keys say where everything is, and nothing that a source names leads out of its place."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.layout import YearKeys, is_state_key, item_keys, pending_key, pending_prefix
from pc_cloudmask.catalog.versions import find_unsettled, group_versions, read_scene_prefix
from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.scene import check_item_id, check_tile

ID = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20201008T100849"
FOLDER = f"sentinel-2-l2a-cloudmask/22K/22KFV/2018/{ID}"


def test_the_layout_is_the_contract_s() -> None:
    keys = item_keys(ID, "22KFV", 2018)
    assert keys.item == f"{FOLDER}/{ID}.json"
    assert keys.mask("0123456789abcdef" * 4) == f"{FOLDER}/cloudmask-0123456789abcdef.tif"
    assert keys.preview("0123456789abcdef" * 4) == f"{FOLDER}/preview-0123456789abcdef.png"
    assert keys.withdrawn_marker == f"{FOLDER}/withdrawn.json"
    assert keys.year_keys.chain == (
        "sentinel-2-l2a-cloudmask/22K/22KFV/2018/catalog.json",
        "sentinel-2-l2a-cloudmask/22K/22KFV/catalog.json",
        "sentinel-2-l2a-cloudmask/22K/catalog.json",
        "sentinel-2-l2a-cloudmask/collection.json",
        "catalog.json",
    )
    digest = "0123456789abcdef0123"  # pragma: allowlist secret
    assert pending_key(ID, digest) == f"_pending/{ID}-{digest[:16]}.json"
    longest = pending_key("a" * 128, "f" * 64)
    assert is_state_key(longest)
    assert longest.startswith(pending_prefix("a" * 128))


@given(
    st.text(max_size=40) | st.sampled_from(["..", "../../x", "a/b", "a.json", "a\n", "\u0661", "-x", "_x"])
)
def test_an_id_is_safe_or_refused(item_id: str) -> None:
    try:
        check_item_id(item_id)
    except InvalidField as error:
        message = str(error)
    else:
        key = item_keys(item_id, "22KFV", 2018).item
        assert posixpath.normpath(key) == key
        assert key.isascii()
        return
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize("item_id", ["withdrawn", "superseded-by-S2B"])
def test_marks_in_an_item_s_folder_are_no_ids(item_id: str) -> None:
    with pytest.raises(InvalidField, match="keeps for itself"):
        check_item_id(item_id)


@pytest.mark.parametrize(
    "tile",
    ["", "22kfv", "T22KFV", "00KFV", "61KFV", "22IFV", "22OFV", "22KIV", "22KFW", "22KFV\n", "٢٢KFV", "../x"],
)
def test_what_is_no_tile_is_refused(tile: str) -> None:
    with pytest.raises(InvalidField, match="s2:mgrs_tile"):
        check_tile(tile, ID)


names = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
keys_in_store = st.lists(names, min_size=1, max_size=5).map("/".join)


@pytest.mark.slow
@given(keys_in_store, keys_in_store)
def test_a_relative_href_leads_to_its_key(key: str, from_key: str) -> None:
    href = CatalogContext().href(key, from_key)
    assert href.startswith(("./", "../"))
    assert posixpath.normpath(posixpath.join(posixpath.dirname(from_key), href)) == key


@pytest.mark.slow
@given(keys_in_store, keys_in_store)
def test_an_absolute_href_is_the_public_url_and_the_key(key: str, from_key: str) -> None:
    assert CatalogContext("https://example.com/s2").href(key, from_key) == f"https://example.com/s2/{key}"


def test_years_have_four_digits() -> None:
    assert YearKeys("22KFV", 18).prefix == "sentinel-2-l2a-cloudmask/22K/22KFV/0018/"


def test_versions_of_a_scene_are_told_in_both_forms_of_a_products_id() -> None:
    start, end = "S2B_MSIL2A_20181214T133219_", "R081_T22KFV_"
    made = [
        f"{start}{n}{end}{day}T000000"
        for n, day in (("N0211_", 20181215), ("", 20201008), ("N0500_", 20230601))
    ]
    assert {read_scene_prefix(item_id) for item_id in made} == {start + end}
    starts = dict.fromkeys(sorted(made, reverse=True), "20181214T133217")
    assert group_versions(starts) == [made]
    assert find_unsettled(starts, made) == [(made[0], made[1]), (made[1], made[2])]
    assert read_scene_prefix(made[1].replace("T22KFV", "T22KGV")) != start + end
