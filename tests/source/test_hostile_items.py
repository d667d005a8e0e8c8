"""Whatever a source sends, it is refused by name or published as sound JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.catalog.fields import decode_document, encode_document
from pc_cloudmask.errors import ItemError
from pc_cloudmask.source.hrefs import unsign_item
from pc_cloudmask.source.item import hash_item, read_scene
from tests.catalog.items import delete_at, derive, list_paths, make_source_item, set_at


def nest(depth: int, opening: str, closing: str) -> Any:
    return json.loads(opening * depth + "1" + closing * depth)


DEEP = [
    nest(900, "[", "]"),
    nest(900, '{"alternate": ', "}"),
    nest(450, '{"alternate": {"href": ', "}}"),
    nest(200, "[", "]"),
]
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**63, 2**64, -(2**63) - 1, 0, -0.0, 1e308, 5e-324]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(st.characters(codec=None), max_size=20),
    st.sampled_from(["\ud800", "\x00", "\n", " ", "javascript:alert(1)", "../../x", "x" * 5000, "٢٢KFV"]),
    st.sampled_from(["EPSG:٣٢٧٢٢", "2018-12-14T13:32:19Z", "9999-12-31T23:59:59-23:59", "NaN"]),
)
values = st.one_of(
    leaves,
    st.sampled_from(DEEP),
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ),
)

PATHS = list(list_paths(make_source_item()))
NOTED = [
    path
    for path in PATHS
    if path[0] in ("id", "geometry", "bbox", "links", "stac_extensions", "properties")
    or path[:2] in (("assets",), ("assets", "SCL"), ("assets", "B02"), ("assets", "visual"))
]


@st.composite
def broken_items(draw: st.DrawFn) -> dict[str, Any]:
    """The source item with up to three values replaced, removed or added."""
    item = make_source_item()
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in NOTED if _is_there(item, path)]
        path = draw(st.sampled_from(paths))
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "remove":
            item = delete_at(item, path)
        elif how == "replace" or isinstance(path[-1], int):
            item = set_at(item, path, draw(values))
        else:
            item = set_at(item, (*path[:-1], draw(st.text(max_size=12))), draw(values))
    return item


def _is_there(document: Any, path: tuple[str | int, ...]) -> bool:
    for step in path:
        if not isinstance(document, dict if isinstance(step, str) else list):
            return False
        if step not in (document if isinstance(document, dict) else range(len(document))):
            return False
        document = document[step]
    return True


def find_refusal(work: Callable[[Any], object], item: Any) -> ItemError | None:
    """The error of our own that ``work`` ends with, in one short line; no other may come."""
    try:
        work(item)
    except ItemError as error:
        refusal = error
    else:
        return None
    assert str(refusal).isprintable()
    assert len(str(refusal)) < 400
    return refusal


@pytest.mark.slow
@given(broken_items())
@settings(max_examples=500)
def test_a_broken_item_is_refused_or_published_soundly(item: dict[str, Any]) -> None:
    if find_refusal(read_scene, item):
        return
    published = derive(unsign_item(item))
    body = encode_document(published)
    again = decode_document(body, "item")
    assert encode_document(again) == body
    west, south, east, north = read_coverage(again).bbox
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90


@pytest.mark.slow
@given(broken_items())
def test_the_hash_of_any_item_is_one_or_refused(item: dict[str, Any]) -> None:
    if not find_refusal(hash_item, item):
        assert len(hash_item(unsign_item(item))) == 64


@given(values)
def test_any_json_value_is_refused(value: Any) -> None:
    assert find_refusal(read_scene, value)


@pytest.mark.parametrize("deep", DEEP, ids=lambda deep: type(deep).__name__)
@pytest.mark.parametrize("path", [path for path in NOTED if len(path) <= 3], ids=str)
def test_deep_nesting_anywhere_is_refused_or_harmless(path: tuple[str | int, ...], deep: Any) -> None:
    item = set_at(make_source_item(), path, deep)
    if not find_refusal(read_scene, item):
        encode_document(derive(item))
