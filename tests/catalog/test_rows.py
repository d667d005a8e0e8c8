"""Items of many makers become one table."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest

from pc_cloudmask.catalog import mirror
from pc_cloudmask.catalog.mirror import FieldTypes, LeftOut, flatten_bbox


@pytest.fixture(autouse=True, scope="module")
def silent_library() -> Iterator[None]:
    """Spare the library the look at each page of this process's memory that it logs with every batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stac_geoparquet.arrow._api.memlog", lambda _: None)
        yield


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}


def make(number: int, properties: dict[str, Any], asset: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": f"item-{number}",
        "geometry": SQUARE,
        "bbox": [0, 0, 1, 1],
        "properties": {"datetime": "2018-12-14T13:32:19Z", "a": 1, **properties},
        "links": [],
        "assets": {"B08": {"href": "./a.tif", **(asset or {})}},
    }


def tabulate(items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    left_out: list[LeftOut] = []
    return pq.read_table(io.BytesIO(mirror._encode_table(items, left_out))).to_pylist(), left_out


#: What most items have under a name, what one has, and what is said of it.
ODD: dict[str, tuple[Any, Any, str]] = {
    "number among texts": ("a", 5, "number, and in other items of type text"),
    "text among numbers": (5, "nan", "text, and in other items of type number"),
    "text among lists": ([{"name": "ESA"}], "ESA", "text, and in other items of type list"),
    "object among texts": ("a", {"b": 1}, "object, and in other items of type text"),
    "truth value among numbers": (1.5, True, "truth value, and in other items"),
    "list of texts among lists of numbers": ([1, 2], ["a"], "text, and in other items of type number"),
    "mixed list": ([1, 2], [1, "a"], "text, and in other items of type number"),
    "long integer among fractions": (0.5, (1 << 53) + 1, "long integer, and in other items of type number"),
    "integer of 64 bits and more": (1, 1 << 63, "an integer of more than 64 bits"),
}


@pytest.mark.slow
@pytest.mark.parametrize("rows_at_once", [1, 1000])
@pytest.mark.parametrize("odd_at", [0, 2])
@pytest.mark.parametrize("name", ODD)
def test_the_odd_value_is_left_out_and_named(
    name: str, odd_at: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_CHUNK_ROWS", rows_at_once)
    usual, odd, reason = ODD[name]
    items = [make(number, {"x:y": odd if number == odd_at else usual}) for number in range(3)]
    rows, left_out = tabulate(items)
    assert [(each.id, each.field) for each in left_out] == [(f"item-{odd_at}", "properties.x:y")]
    assert reason in left_out[0].reason
    assert [row["id"] for row in rows] == ["item-0", "item-1", "item-2"]
    assert [row["x:y"] is None for row in rows] == [number == odd_at for number in range(3)]


@pytest.mark.parametrize("rows_at_once", [1, 1000])
@pytest.mark.parametrize(
    "others",
    [
        [{"x": 0}, {"x": 46.2}],
        [{"x": {"a": 1}}, {"x": None}, {"x": {}}, {}],
        [{"x": {}}],
        [{"x": {"a": {}}}, {}],
        [{"x": []}, {"x": [{"a": 1}]}],
        [{"x": [{}]}],
        [{"x": 1 << 60}],
        [{"created": "2020-01-01T00:00:00.123456789Z"}, {"created": "2020-01-01T00:00:00+02:00"}, {}],
    ],
)
def test_what_fits_one_column_stays(
    others: list[dict[str, Any]], rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_CHUNK_ROWS", rows_at_once)
    rows, left_out = tabulate([make(number, each) for number, each in enumerate(others)])
    assert (len(rows), left_out) == (len(others), [])


@pytest.mark.parametrize("value", ["2030-01-01", "2030-01-01T00:00:00", "not a date", 5, [1]])
@pytest.mark.parametrize("name", ["expires", "start_datetime"])
def test_what_is_no_instant_is_left_out_of_a_column_of_instants(name: str, value: Any) -> None:
    rows, left_out = tabulate([make(0, {name: value}), make(1, {name: "2030-01-01T00:00:00Z"})])
    assert [str(each) for each in left_out] == [
        f"item-0: properties.{name} is no RFC 3339 instant with its zone"
    ]
    assert [row[name] is None for row in rows] == [True, False]


def test_a_field_of_an_asset_is_left_out_alone() -> None:
    bands = [{"raster:bands": [{"nodata": nodata, "gsd": 10}]} for nodata in (0, "nan", 0)]
    rows, left_out = tabulate([make(number, {}, each) for number, each in enumerate(bands)])
    assert [(each.id, each.field) for each in left_out] == [("item-1", "assets.B08.raster:bands.[].nodata")]
    assert [row["assets"]["B08"]["raster:bands"][0]["gsd"] for row in rows] == [10, 10, 10]


def test_a_bbox_with_heights_loses_them() -> None:
    item = {**make(0, {}), "bbox": [0, 1, -5, 2, 3, 9]}
    rows, left_out = tabulate([flatten_bbox(item), make(1, {})])
    assert (rows[0]["bbox"], left_out) == ({"xmin": 0, "ymin": 1, "xmax": 2, "ymax": 3}, [])


def test_nothing_is_converted() -> None:
    types, left_out = FieldTypes(), list[LeftOut]()
    item = make(0, {"x": [1, [2.5, "a"]][0:1], "y": "text"})
    types.count(item)
    assert types.fit(item, left_out) == {**item, "links": [], "stac_extensions": []}
    assert left_out == []
