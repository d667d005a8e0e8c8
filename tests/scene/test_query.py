from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.scene.geometry import prepare_area
from pc_cloudmask.scene.query import (
    SceneQuery,
    build_query,
    format_datetime_interval,
    parse_bbox,
    parse_datetime_interval,
    parse_instant,
    parse_tile,
    split_interval,
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2018", utc(2018, 1, 1), utc(2018, 12, 31, 23, 59, 59, 999999)),
        ("2018-12", utc(2018, 12, 1), utc(2018, 12, 31, 23, 59, 59, 999999)),
        ("2020-02", utc(2020, 2, 1), utc(2020, 2, 29, 23, 59, 59, 999999)),
        ("2018-12-14", utc(2018, 12, 14), utc(2018, 12, 14, 23, 59, 59, 999999)),
        ("2018-12-14T13:32:19Z", utc(2018, 12, 14, 13, 32, 19), utc(2018, 12, 14, 13, 32, 19)),
        (
            "2018-12-14T15:32:19.5+02:00",
            utc(2018, 12, 14, 13, 32, 19, 500000),
            utc(2018, 12, 14, 13, 32, 19, 500000),
        ),
        ("2018-12-14t13:32:19.123456789z",) + (utc(2018, 12, 14, 13, 32, 19, 123456),) * 2,
        ("2018-12-14/2019-01", utc(2018, 12, 14), utc(2019, 1, 31, 23, 59, 59, 999999)),
        ("../2018-12-14", None, utc(2018, 12, 14, 23, 59, 59, 999999)),
        ("/2018-12-14", None, utc(2018, 12, 14, 23, 59, 59, 999999)),
        ("2018-12-14/..", utc(2018, 12, 14), None),
        ("2018-12-14/", utc(2018, 12, 14), None),
        (" 2018-12-14/..\n", utc(2018, 12, 14), None),
    ],
)
def test_intervals_include_their_last_day(text: str, start: datetime | None, end: datetime | None) -> None:
    assert parse_datetime_interval(text) == (start, end)


@pytest.mark.parametrize(
    "text",
    ["", "..", "../..", "/", "2018-13", "2018-02-30", "18-12-14", "2018-12-14T13:32:19", "2018-12-14T13",
     "2019/2018", "2018/2019/2020", "yesterday", "２０１８", "0000", "2018-12-14T13:32:19+99:00", "9999"],
)  # fmt: skip
def test_an_interval_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--datetime"):
        parse_datetime_interval(text)


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_an_instant_survives_formatting(moment: datetime) -> None:
    text = format_datetime_interval((moment, None))
    assert text.endswith("Z/..")
    assert parse_datetime_interval(text) == (moment, None)


@given(st.dates(), st.timedeltas(timedelta(0), timedelta(days=1) - timedelta(microseconds=1)))
def test_a_day_holds_its_instants_and_no_other(day: datetime, time: timedelta) -> None:
    moment = utc(day.year, day.month, day.day) + time
    start, end = parse_datetime_interval(day.isoformat())
    assert start is not None
    assert end is not None
    assert start <= moment <= end
    assert end - start == timedelta(days=1) - timedelta(microseconds=1)


@given(st.text())
def test_any_text_is_an_interval_or_a_named_error(text: str) -> None:
    with contextlib.suppress(SettingsError):
        start, end = parse_datetime_interval(text)
        assert start is None or end is None or start <= end


@pytest.mark.parametrize("text", ["2018-12-14", "2018-12-14T24:00:01Z", "0001-01-01T00:00:00+23:00", "", "a"])
def test_what_is_no_instant_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"instant|out of range|must be in"):
        parse_instant(text)


def test_a_box_keeps_its_order_and_may_cross_the_antimeridian() -> None:
    assert parse_bbox("-50.5,-23,-49,-22") == (-50.5, -23.0, -49.0, -22.0)
    assert parse_bbox(" 179, -18, -179, -16 ") == (179.0, -18.0, -179.0, -16.0)
    assert parse_bbox("-180,-90,180,90") == (-180.0, -90.0, 180.0, 90.0)
    assert parse_bbox("180,-90,-180,90") == (180.0, -90.0, -180.0, 90.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1,2,3", "not four numbers"),
        ("1,2,3,4,5,6", "not four numbers"),
        ("a,b,c,d", "not four numbers"),
        ("", "not four numbers"),
        ("nan,-23,-49,-22", "NaN"),
        ("-50,-inf,-49,-22", "NaN and infinity"),
        ("-50,-22,-49,-23", "south is not below north"),
        ("-50,-22,-49,-22", "south is not below north"),
        ("-50,-23,-50,-22", "west and east"),
        ("-181,-23,-49,-22", "longitudes"),
        ("-50,-23,180.5,-22", "longitudes"),
        ("180.5,-23,-49,-22", "longitudes"),
        ("-50,-23,-180.5,-22", "longitudes"),
        ("-50,-91,-49,-22", "longitudes"),
        ("-50,-22,-49,90.5", "longitudes"),
        ("nan,-23,-49,-22\n", "NaN"),
    ],
)
def test_a_box_that_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        parse_bbox(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["22KFV", "T22KFV", "22kfv", "t22kfv", " 22KFV "])
def test_a_tile_has_several_spellings(text: str) -> None:
    assert parse_tile(text) == "22KFV"


@pytest.mark.parametrize(
    "text",
    ["", "T", "22KF", "61KFV", "00KFV", "22IFV", "22KIV", "22KFW", "../..", "22KFV/", "TT22KFV", "S22KFV"],
)
def test_a_tile_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="not an MGRS tile such as 22KFV"):
        parse_tile(text)


POLYGON = {"type": "Polygon", "coordinates": [[[-50, -23], [-49, -23], [-49, -22], [-50, -23]]]}


@pytest.mark.parametrize(
    "document",
    [
        POLYGON,
        {"type": "Feature", "properties": {}, "geometry": POLYGON},
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "properties": {}, "geometry": POLYGON}],
        },
    ],
)
def test_an_area_is_a_geometry_in_any_of_geojsons_wrappings(document: object) -> None:
    for text in (json.dumps(document), "\ufeff" + json.dumps(document)):
        assert build_query(intersects=text).intersects == POLYGON
        assert build_query(intersects=text.encode()).intersects == POLYGON


def square(west: float, south: float) -> dict[str, object]:
    return {
        "type": "Polygon",
        "coordinates": [
            [[west, south], [west + 1, south], [west + 1, south + 1], [west, south + 1], [west, south]]
        ],
    }


def wrap(*geometries: object) -> list[dict[str, object]]:
    """The same geometries as a collection of features and as one of geometries, also within a feature."""
    collection = {"type": "GeometryCollection", "geometries": list(geometries)}
    features = [{"type": "Feature", "properties": None, "geometry": each} for each in (*geometries, None)]
    return [
        collection,
        {"type": "Feature", "geometry": collection},
        {"type": "FeatureCollection", "features": features},
    ]


@pytest.mark.parametrize("document", wrap(square(0, 0), square(5, 5), square(0.5, 0)))
def test_the_members_of_a_collection_become_one_area(document: object) -> None:
    area = build_query(intersects=json.dumps(document)).intersects
    assert area is not None
    assert area["type"] == "MultiPolygon"
    for point, is_inside in (((0.2, 0.5), True), ((1.3, 0.5), True), ((5.5, 5.5), True), ((3, 3), False)):
        assert prepare_area({"type": "Point", "coordinates": point})(area) is is_inside


@pytest.mark.parametrize("document", wrap(square(0, 0), {"type": "Point", "coordinates": [5, 5]}))
def test_points_among_areas_count(document: object) -> None:
    area = build_query(intersects=json.dumps(document)).intersects
    assert area is not None
    assert area["type"] == "MultiPolygon"
    for point, is_inside in (((0.5, 0.5), True), ((5, 5), True), ((5.001, 5), False)):
        assert prepare_area({"type": "Point", "coordinates": point})(area) is is_inside


@pytest.mark.parametrize(
    "document", wrap({"type": "Point", "coordinates": [1, 1]}, {"type": "Point", "coordinates": [2, 2]})
)
def test_a_collection_of_points_stays_one(document: object) -> None:
    assert build_query(intersects=json.dumps(document)).intersects == {
        "type": "MultiPoint",
        "coordinates": [[1, 1], [2, 2]],
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a geometry"),
        ('{"type": "Feature", "geometry": null}', "empty"),
        ('{"type": ["Polygon"]}', "not a geometry"),
        ('{"type": "Polygon", "coordinates": [[[1, 2], [3, "4"], [5, 6], [1, 2]]]}', r"\[0\]\[1\]\[1\]: .* number"),
        ('{"type": "Polygon", "coordinates": [[[1, 2], [3, true], [5, 6], [1, 2]]]}', "valid number"),
        ('{"type": "Polygon", "coordinates": [[[500000, 7500000], [1, 2], [3, 4], [500000, 7500000]]]}', "degrees"),
        ('{"type": "LineString", "coordinates": [[1, 2]]}', "at least 2"),
        ('{"type": "MultiPolygon", "coordinates": [[[[1, 2], [3, 4], [5, 6], [1, 2]]], []]}', "at least 1"),
        ('{"type": "Polygon", "coordinates": [[NaN, 1]]}', "not JSON"),
        ('{"type": "Polygon", "coordinates": 5}', "valid list"),
        ('{"type": "Polygon", "coordinates": []}', "empty"),
        ('{"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [1, 2]]]}', "at least 4"),
        ('{"type": "FeatureCollection", "features": []}', "empty"),
        ('{"type": "FeatureCollection", "features": null}', "not a geometry"),
        ('{"type": "FeatureCollection", "features": {"a": 1}}', "not a geometry"),
        ("[" * 5000, "not JSON"),
    ],
)  # fmt: skip
def test_an_area_that_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        build_query(intersects=text)


ESA, PC = (f"S2B_MSIL2A_20240629T212529_{n}R043_T06VVN_20240630T010203" for n in ("N0510_", ""))
API = "https://planetarycomputer.microsoft.com/api/stac/v1/collections/sentinel-2-l2a/items"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (PC, (PC,)),
        (f"  {PC} ", (PC,)),
        (f"{API}/{PC}", (PC,)),
        (f"{API}/{PC}/?collection=x#y", (PC,)),
        (f"/data/{PC}.json", (PC,)),
        (ESA, (ESA, PC)),
        (f"{ESA}.SAFE", (ESA, PC)),
        (f"archive/{ESA}.SAFE/", (ESA, PC)),
        (f"{ESA}.zip", (ESA, PC)),
        (f"{ESA}.SAFE.zip", (ESA, PC)),
        (f"s3://bucket/2024/{ESA}.SAFE/", (ESA, PC)),
        ("scene-1", ("scene-1",)),
    ],
)
def test_an_id_is_found_in_what_people_write_for_an_item(text: str, ids: tuple[str, ...]) -> None:
    assert build_query(ids=[text]).ids == ids


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no item's id; write one such as S2B_"),
        ("a b", "no item's id"),
        (API.partition("/api")[0], "no item's id"),
        (PC.replace("L2A", "L1C"), "Level-1C"),
    ],
)
def test_what_holds_no_id_is_refused_with_an_example(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        build_query(ids=[text])


def test_a_query_is_built_from_texts() -> None:
    query = build_query(
        bbox="-50,-23,-49,-22", tiles=["T22KFV", "22kfv", "22KGV"], ids=["a", "b", "a"], limit=5
    )
    assert query == SceneQuery((-50.0, -23.0, -49.0, -22.0), None, ("22KFV", "22KGV"), None, ("a", "b"), 5)
    assert not query.is_open
    assert build_query(datetime="2018").is_open


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"bbox": "-50,-23,-49,-22", "intersects": json.dumps(POLYGON)}, "exclude each other"),
        ({"limit": 0}, "at least 1"),
        ({"datetime": "soon"}, "--datetime"),
        ({"tiles": ["nowhere"]}, "--tile"),
    ],
)
def test_a_query_that_contradicts_itself_is_refused(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        build_query(**arguments)  # type: ignore[arg-type]  # each is right by itself


@given(
    st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1)), st.timedeltas(timedelta(0), timedelta(days=900))
)
def test_the_parts_of_an_interval_follow_each_other_and_are_all_of_it(
    start: datetime, length: timedelta
) -> None:
    first = start.replace(tzinfo=UTC)
    month = timedelta(days=31)
    parts = list(split_interval((first, first + length), month))
    assert (parts[0][0], parts[-1][1]) == (first, first + length)
    for part_first, part_last in parts:
        assert part_first is not None
        assert part_last is not None
        assert timedelta(0) <= part_last - part_first < month
    for (_, last), (following, _) in pairwise(parts):
        assert last is not None
        assert following == last + timedelta(microseconds=1)
    for open_end in ((None, first), (first, None)):
        assert list(split_interval(open_end, month)) == [open_end]
