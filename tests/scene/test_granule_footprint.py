"""How much of a footprint another one covers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.scene.image import read_area


def ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def box(*corners: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring(*corners)]}


def cover(of: dict[str, Any], by: dict[str, Any]) -> float:
    area = read_area(of)
    return float(read_area(by, area.centroid.x).intersection(area).area / area.area)


@pytest.mark.slow
@given(st.floats(-179, 170), st.floats(-80, 80), st.floats(0.1, 5), st.floats(0.1, 5), st.floats(-1.2, 1.2))
def test_the_cover_of_a_shifted_box_is_its_overlap(
    west: float, south: float, width: float, height: float, shift: float
) -> None:
    north = south + height
    footprint = box(west, south, west + width, north)
    shifted = box(west + shift * width, south, west + (1 + shift) * width, north)
    assert cover(footprint, shifted) == pytest.approx(max(0.0, 1 - abs(shift)), abs=1e-6)


def test_heights_of_vertices_say_nothing() -> None:
    flat = box(10, 50, 12, 51)
    high = {"type": "Polygon", "coordinates": [[[*vertex, 700.0] for vertex in ring(10, 50, 12, 51)]]}
    assert read_area(high) == read_area(flat)


def test_a_footprint_that_crosses_itself_has_the_area_of_its_parts() -> None:
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
    assert read_area(bow_tie).area == pytest.approx(2)
    assert cover(box(0, 0, 2, 2), bow_tie) == pytest.approx(0.5)


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
            assert cover(one, other) == pytest.approx(1)
    assert cover(crossing, box(-180, 60, -179, 61)) == pytest.approx(0.5)


def test_a_vertex_by_vertex_change_of_sign_is_one_polygon() -> None:
    # As Earth Engine writes it: each longitude within 180 degrees.
    mixed = {"type": "LinearRing", "coordinates": [[179, 60], [-179, 60], [-179, 61], [179, 61], [179, 60]]}
    assert cover(box(179, 60, 181, 61), mixed) == 1


def test_a_hole_is_outside() -> None:
    holed = {"type": "Polygon", "coordinates": [ring(0, 0, 4, 4), ring(1, 1, 3, 3)]}
    assert cover(box(0, 0, 4, 4), holed) == pytest.approx(0.75)
    assert read_area(holed).area == pytest.approx(12)


@pytest.mark.parametrize(
    "geometry", [{}, {"type": "Point", "coordinates": [1, 2]}, {"type": "Polygon", "coordinates": [[[0, 0]]]}]
)
def test_no_area_covers_nothing(geometry: dict[str, Any]) -> None:
    assert read_area(geometry).area == 0
    assert cover(box(0, 0, 1, 1), geometry) == 0
