"""How much of a footprint another one covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from shapely.geometry import mapping

from pc_cloudmask.scene.image import find_covered, sample_footprint


def ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def box(*corners: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring(*corners)]}


def cover(of: dict[str, Any], by: dict[str, Any]) -> float:
    return float(find_covered(sample_footprint(of), by).mean())


@given(st.floats(-179, 170), st.floats(-80, 80), st.floats(0.1, 5), st.floats(0.1, 5), st.floats(-1.2, 1.2))
def test_the_cover_of_a_shifted_box_is_its_overlap(
    west: float, south: float, width: float, height: float, shift: float
) -> None:
    north = south + height
    footprint = box(west, south, west + width, north)
    shifted = box(west + shift * width, south, west + (1 + shift) * width, north)
    assert cover(footprint, shifted) == pytest.approx(max(0.0, 1 - abs(shift)), abs=1 / 64)


@given(st.lists(st.tuples(st.integers(-9, 16), st.integers(-9, 16)), min_size=3, max_size=8))
def test_the_cover_of_a_slanted_polygon_is_as_geos_says(vertices: list[tuple[int, int]]) -> None:
    hull = shapely.MultiPoint(np.array(vertices) / 7).convex_hull
    assume(hull.area > 0)
    points = sample_footprint(box(0, 0, 1, 1))
    # Points on an edge may count either way.
    clear_of_edges = shapely.distance(hull.exterior, shapely.points(points)) > 1e-9
    expected = shapely.contains_xy(hull, *points.T)
    assert np.array_equal(find_covered(points, mapping(hull))[clear_of_edges], expected[clear_of_edges])


def test_heights_of_vertices_say_nothing() -> None:
    flat = box(10, 50, 12, 51)
    high = {"type": "Polygon", "coordinates": [[[*vertex, 700.0] for vertex in ring(10, 50, 12, 51)]]}
    assert np.array_equal(sample_footprint(high), sample_footprint(flat))
    assert cover(flat, high) == 1


@pytest.mark.parametrize("kind", ["LinearRing", "MultiPolygon"])
def test_all_kinds_of_areas_are_read_alike(kind: str) -> None:
    corners = ring(10, 50, 12, 51)
    geometry = {"type": kind, "coordinates": corners if kind == "LinearRing" else [[corners]]}
    assert cover(box(10, 50, 12, 51), geometry) == 1
    assert cover(geometry, box(10, 50, 11, 51)) == pytest.approx(0.5)


def test_a_footprint_across_the_antimeridian_meets_its_like() -> None:
    crossing = box(179, 60, 181, 61)
    written_west = box(-181, 60, -179, 61)
    halves = {"type": "MultiPolygon", "coordinates": [[ring(179, 60, 180, 61)], [ring(-180, 60, -179, 61)]]}
    for one in (crossing, written_west, halves):
        for other in (crossing, written_west, halves):
            assert cover(one, other) == 1
    assert cover(crossing, box(-180, 60, -179, 61)) == pytest.approx(0.5)


def test_a_vertex_by_vertex_change_of_sign_is_one_polygon() -> None:
    # As Earth Engine writes it: each longitude within 180 degrees.
    mixed = {"type": "LinearRing", "coordinates": [[179, 60], [-179, 60], [-179, 61], [179, 61], [179, 60]]}
    assert cover(box(179, 60, 181, 61), mixed) == 1


def test_a_hole_is_outside() -> None:
    holed = {"type": "Polygon", "coordinates": [ring(0, 0, 4, 4), ring(1, 1, 3, 3)]}
    assert cover(box(0, 0, 4, 4), holed) == pytest.approx(0.75)
    assert len(sample_footprint(holed)) == pytest.approx(0.75 * 64 * 64)


@pytest.mark.parametrize(
    "geometry", [{}, {"type": "Point", "coordinates": [1, 2]}, {"type": "Polygon", "coordinates": [[[0, 0]]]}]
)
def test_no_area_covers_nothing(geometry: dict[str, Any]) -> None:
    assert len(sample_footprint(geometry)) == 0
    assert not np.any(find_covered(sample_footprint(box(0, 0, 1, 1)), geometry))
