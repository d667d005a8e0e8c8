from __future__ import annotations

import json
from typing import Any

import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from shapely.geometry import mapping, shape

from pc_cloudmask.scene.geometry import build_box, prepare_area, read_geometry

# Whole numbers make shared corners, shared edges and touching lines common; no longitude is a latitude.
position = st.tuples(st.integers(-12, 0), st.integers(20, 32))


@st.composite
def polygons(draw: st.DrawFn) -> dict[str, Any]:
    points = draw(st.lists(position, min_size=3, max_size=6, unique=True))
    hull = shapely.MultiPoint(points).convex_hull
    if hull.geom_type != "Polygon":
        hull = hull.buffer(1)
    return dict(mapping(hull))


@st.composite
def rings_with_holes(draw: st.DrawFn) -> dict[str, Any]:
    x, y = draw(position)
    return dict(mapping(shapely.box(x, y, x + 6, y + 6) - shapely.box(x + 2, y + 2, x + 4, y + 4)))


geometries = st.one_of(
    polygons(),
    rings_with_holes(),
    position.map(lambda at: {"type": "Point", "coordinates": at}),
    st.lists(position, min_size=1, max_size=3).map(lambda at: {"type": "MultiPoint", "coordinates": at}),
    st.lists(position, min_size=2, max_size=4, unique=True).map(
        lambda at: {"type": "LineString", "coordinates": at}
    ),
    st.tuples(position, position, position).map(
        lambda at: dict(mapping(shapely.MultiPolygon([shapely.box(x, y, x + 1, y + 1) for x, y in set(at)])))
    ),
)


@pytest.mark.slow
@given(geometries, geometries)
def test_two_geometries_meet_where_geos_says_so(first: dict[str, Any], second: dict[str, Any]) -> None:
    meet = prepare_area(second)(first)
    assert meet == shape(first).intersects(shape(second))
    assert meet == prepare_area(first)(second)


def test_a_box_across_the_antimeridian_is_two() -> None:
    fiji = build_box(177.0, -19.0, -179.0, -16.0)
    assert prepare_area(build_box(179.5, -18.0, 180.0, -17.0))(fiji)
    assert prepare_area(build_box(-180.0, -18.0, -179.5, -17.0))(fiji)
    assert not prepare_area(build_box(-178.0, -18.0, 176.0, -17.0))(fiji)


def test_a_box_without_width_is_a_meridian_alone() -> None:
    meridian = build_box(5.0, 0.0, 5.0, 1.0)
    assert prepare_area(build_box(5.0, 0.5, 6.0, 1.5))(meridian)
    assert not prepare_area(build_box(6.0, 0.0, 7.0, 1.0))(meridian)


@pytest.mark.parametrize("kind", ["MultiPoint", "Polygon", "MultiPolygon"])
def test_an_empty_geometry_meets_nothing(kind: str) -> None:
    empty = {"type": kind, "coordinates": []}
    for other in (build_box(-180, -90, 180, 90), empty):
        assert not prepare_area(other)(empty)
        assert not prepare_area(empty)(other)


@given(st.floats(-400, 400), st.floats(-100, 100))
@example(180, 90)
@example(-360, -90)
@example(360.5, 0)
@example(0, -90.5)
def test_the_whole_earth_is_in_range_once_around_and_nothing_beyond(lon: float, lat: float) -> None:
    geometry = {"type": "Point", "coordinates": [lon, lat, 8848.0]}
    if abs(lon) <= 360 and abs(lat) <= 90:
        assert prepare_area(build_box(-180, -90, 180, 90))(geometry)
    else:
        with pytest.raises(ValueError, match="degrees"):
            prepare_area(build_box(-180, -90, 180, 90))(geometry)


@given(st.floats(-400, 400))
def test_a_user_keeps_to_the_degrees_there_are(lon: float) -> None:
    text = json.dumps({"type": "Point", "coordinates": [lon, 0]})
    if abs(lon) <= 180:
        read_geometry(text)
    else:
        with pytest.raises(ValueError, match="degrees"):
            read_geometry(text)


@pytest.mark.parametrize("whole", [(178.5, 180.5), (-181.5, -179.5)])
def test_a_footprint_left_whole_across_the_antimeridian_meets_both_sides(whole: tuple[float, float]) -> None:
    footprint = {"type": "Polygon", "coordinates": [
        [[lon, lat] for lon, lat in shapely.box(whole[0], -18, whole[1], -17).exterior.coords]
    ]}  # fmt: skip
    for box in ((179.0, -18, 180.0, -17), (-180.0, -18, -179.8, -17), (179.9, -18, -179.9, -17)):
        assert prepare_area(build_box(*box))(footprint)
        assert prepare_area(footprint)(build_box(*box))
    assert not prepare_area(build_box(-170.0, -18, 170.0, -17))(footprint)


@pytest.mark.parametrize(
    "geometry",
    [None, 1, {}, {"type": "Polygon"}, {"type": "GeometryCollection", "geometries": []}, {"type": {}},
     {"type": "Polygon", "coordinates": [[[float("nan"), 1.0]]]},
     {"type": "Polygon", "coordinates": [[[1.0, 1.0]] * 100_001]}],
)  # fmt: skip
def test_what_is_no_geometry_is_a_value_error(geometry: Any) -> None:
    with pytest.raises(ValueError, match=r"not a geometry|coordinates|degrees|positions"):
        prepare_area(build_box(0, 0, 1, 1))(geometry)


def test_no_footprint_is_wider_than_half_the_earth() -> None:
    ring = [[179.5, -17], [-179.5, -17], [-179.5, -16], [179.5, -16], [179.5, -17]]
    footprint = {"type": "Polygon", "coordinates": [ring]}
    assert not prepare_area(build_box(0, -17, 10, -16))(footprint)
    assert prepare_area(build_box(179.6, -17, 179.7, -16))(footprint)
    assert prepare_area(build_box(-179.7, -17, -179.6, -16))(footprint)
