from __future__ import annotations

from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import mapping, shape

from flows.scene.geometry import build_box, geometries_meet

# Whole numbers make shared corners, shared edges and touching lines common.
position = st.tuples(st.integers(0, 12), st.integers(0, 12))


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


@given(geometries, geometries)
def test_two_geometries_meet_where_geos_says_so(first: dict[str, Any], second: dict[str, Any]) -> None:
    meet = geometries_meet(first, second)
    assert meet == shape(first).intersects(shape(second))
    assert meet == geometries_meet(second, first)


def test_a_box_across_the_antimeridian_is_two() -> None:
    fiji = build_box(177.0, -19.0, -179.0, -16.0)
    assert geometries_meet(fiji, build_box(179.5, -18.0, 180.0, -17.0))
    assert geometries_meet(fiji, build_box(-180.0, -18.0, -179.5, -17.0))
    assert not geometries_meet(fiji, build_box(-178.0, -18.0, 176.0, -17.0))


@pytest.mark.parametrize("whole", [(178.5, 180.5), (-181.5, -179.5)])
def test_a_footprint_left_whole_across_the_antimeridian_meets_both_sides(whole: tuple[float, float]) -> None:
    footprint = {"type": "Polygon", "coordinates": [
        [[lon, lat] for lon, lat in shapely.box(whole[0], -18, whole[1], -17).exterior.coords]
    ]}  # fmt: skip
    for box in ((179.0, -18, 180.0, -17), (-180.0, -18, -179.8, -17), (179.9, -18, -179.9, -17)):
        assert geometries_meet(footprint, build_box(*box))
        assert geometries_meet(build_box(*box), footprint)
    assert not geometries_meet(footprint, build_box(-170.0, -18, 170.0, -17))


@pytest.mark.parametrize(
    "geometry",
    [None, 1, {}, {"type": "Polygon"}, {"type": "GeometryCollection", "geometries": []}, {"type": {}},
     {"type": "Polygon", "coordinates": [[[float("nan"), 1.0]]]},
     {"type": "Polygon", "coordinates": [[[1.0, 1.0]] * 100_001]}],
)  # fmt: skip
def test_what_is_no_geometry_is_a_value_error(geometry: Any) -> None:
    with pytest.raises(ValueError, match=r"geometry|nested|degrees|positions"):
        geometries_meet(geometry, build_box(0, 0, 1, 1))
