"""Footprints and boxes are degrees on the Earth, or the item is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.catalog.documents import read_coverage
from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.geometry import MAX_FOOTPRINT_POSITIONS, find_bbox
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.item import read_scene
from tests.catalog.items import derive, make_source_item

longitudes = st.floats(-200, 200)
#: Where tiles are.
latitudes = st.floats(-79, 83)


def ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def polygon(*box: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring(*box)]}


def multipolygon(*boxes: tuple[float, float, float, float]) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": [[ring(*box)] for box in boxes]}


def put_grid_at(item: Item, bbox: list[float]) -> None:
    """Give ``item`` a tile and a grid where ``bbox`` begins, or as near as there are tiles."""
    west, south, _, north = bbox
    latitude = min((south + north) / 2, 83)
    zone, letter = int((west + 180) // 6) % 60 + 1, "CDEFGHJKLMNPQRSTUVWXX"[int((latitude + 80) // 8)]
    item["properties"] |= {
        "s2:mgrs_tile": f"{zone:02}{letter}FV",
        "proj:epsg": (32600 if letter >= "N" else 32700) + zone,
    }
    northing = 111_000 * latitude + (10_000_000 if letter < "N" else 0)
    for asset in item["assets"].values():
        if "proj:transform" in asset:
            asset["proj:transform"] = [*asset["proj:transform"][:5], northing]
            asset.pop("proj:bbox", None)


def item_at(geometry: Any, bbox: Any = None) -> Item:
    item = make_source_item()
    item["geometry"] = geometry
    with suppress(Exception):  # of no geometry there is no place
        put_grid_at(item, find_bbox(geometry))
    if bbox is None:
        del item["bbox"]
    else:
        item["bbox"] = bbox
    return item


NAN, INFINITY = float("nan"), float("inf")
SQUARE = ring(10, 20, 11, 21)
WRONG_GEOMETRIES: dict[str, Any] = {
    "a point": {"type": "Point", "coordinates": [10, 20]},
    "a collection": {"type": "GeometryCollection", "geometries": [polygon(10, 20, 11, 21)]},
    "a type that is a list": {"type": ["Polygon"], "coordinates": [SQUARE]},
    "no coordinates": {"type": "Polygon"},
    "empty coordinates": {"type": "Polygon", "coordinates": []},
    "an empty ring": {"type": "Polygon", "coordinates": [[]]},
    "a ring of three": {"type": "Polygon", "coordinates": [SQUARE[:3]]},
    "an empty polygon among others": {"type": "MultiPolygon", "coordinates": [[SQUARE], []]},
    "a polygon nested as several": {"type": "Polygon", "coordinates": [[SQUARE]]},
    "several nested as one": {"type": "MultiPolygon", "coordinates": [SQUARE]},
    "a position of one number": {"type": "Polygon", "coordinates": [[*SQUARE, [10]]]},
    "a position of texts": {"type": "Polygon", "coordinates": [[*SQUARE, ["10", "20"]]]},
    "a position of flags": {"type": "Polygon", "coordinates": [[*SQUARE, [True, False]]]},
    "NaN": {"type": "Polygon", "coordinates": [[*SQUARE, [NAN, 20]]]},
    "infinity": {"type": "Polygon", "coordinates": [[*SQUARE, [10, INFINITY]]]},
    "a height of NaN": {"type": "Polygon", "coordinates": [[*SQUARE, [10, 20, NAN]]]},
    "beyond a whole turn": polygon(359, 20, 361, 21),
    "beyond the pole": polygon(10, 89, 11, 91),
    "metres": polygon(600_000, 7_400_000, 700_000, 7_500_000),
    "very many positions": {"type": "Polygon", "coordinates": [SQUARE * MAX_FOOTPRINT_POSITIONS]},
}


@pytest.mark.parametrize("geometry", WRONG_GEOMETRIES.values(), ids=WRONG_GEOMETRIES)
def test_a_geometry_that_is_no_footprint_is_refused(geometry: Any) -> None:
    with pytest.raises(InvalidField, match=": geometry "):
        read_scene(item_at(geometry))


WRONG_BOXES: dict[str, Any] = {
    "three numbers": [10, 20, 11],
    "five numbers": [10, 20, 0, 11, 21],
    "texts": ["10", "20", "11", "21"],
    "an object": {"west": 10},
    "NaN": [NAN, 20, 11, 21],
    "NaN for a height": [10, 20, NAN, 11, 21, 5],
    "upside down": [10, 21, 11, 20],
    "beyond a whole turn": [359, 20, 361, 21],
    "beyond the pole": [10, 20, 11, 91],
    "latitude first": [-22, -50, -21, -149],
}


@pytest.mark.parametrize("bbox", WRONG_BOXES.values(), ids=WRONG_BOXES)
def test_a_bbox_that_is_none_is_refused(bbox: Any) -> None:
    with pytest.raises(InvalidField, match=r": bbox[ .]"):
        read_scene(item_at(polygon(10, 20, 11, 21), bbox))


@pytest.mark.parametrize(
    ("bbox", "covered"),
    [
        ([10, 20, 11, 21], (10, 20, 11, 21)),
        ([10, 20, -5, 11, 21, 900], (10, 20, 11, 21)),
        ([179, 20, -179, 21], (-180, 20, 180, 21)),
        ([179, 20, 181, 21], (-180, 20, 180, 21)),
        ([-181, 20, -179, 21], (-180, 20, 180, 21)),
    ],
)
def test_a_bbox_of_the_source_is_published_as_it_is(bbox: list[float], covered: tuple[float, ...]) -> None:
    item = derive(item_at(polygon(10, 20, 11, 21), bbox))
    assert item["bbox"] == bbox
    assert read_coverage(item).bbox == covered


FOOTPRINTS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "a tile": (polygon(-50, -23, -49, -22), [-50, -23, -49, -22]),
    "across Greenwich": (polygon(-0.5, 51, 0.5, 52), [-0.5, 51, 0.5, 52]),
    "two parts": (multipolygon((10, 20, 11, 21), (12, 19, 13, 20)), [10, 19, 13, 21]),
    "cut at the antimeridian": (multipolygon((179, 60, 180, 61), (-180, 60, -178, 61)), [179, 60, -178, 61]),
    "drawn across the antimeridian": (polygon(179, 60, -178, 61), [179, 60, -178, 61]),
    "whole beyond the antimeridian": (polygon(179, 60, 181.5, 61), [179, 60, -178.5, 61]),
    "whole beyond it westwards": (polygon(-181, 60, -179.5, 61), [179, 60, -179.5, 61]),
    "up to the antimeridian": (polygon(179, 60, 180, 61), [179, 60, 180, 61]),
    "at the pole": (polygon(-60, 83, 100, 90), [-180, 83, 180, 90]),
    "with heights": (
        {"type": "Polygon", "coordinates": [[[lon, lat, 5] for lon, lat in SQUARE]]},
        [10, 20, 11, 21],
    ),
}


@pytest.mark.parametrize(("footprint", "bbox"), FOOTPRINTS.values(), ids=FOOTPRINTS)
def test_an_item_without_a_bbox_is_published_with_that_of_its_footprint(
    footprint: dict[str, Any], bbox: list[float]
) -> None:
    assert derive(item_at(footprint))["bbox"] == bbox


def test_a_footprint_that_the_planetary_computer_leaves_whole_across_the_antimeridian_is_published() -> None:
    # Its pipeline asks stactools for Strategy.NORMALIZE, which keeps one polygon and goes beyond 180.
    footprint, bbox = polygon(179.0, -17.2, 180.1, -16.2), [179.0, -17.2, 180.1, -16.2]
    item = derive(item_at(footprint, bbox))
    assert (item["geometry"], item["bbox"]) == (footprint, bbox)


@pytest.mark.slow
@given(longitudes, longitudes, latitudes, latitudes)
def test_the_box_of_a_footprint_is_one_that_a_source_may_send(
    west: float, east: float, south: float, north: float
) -> None:
    footprint = polygon(west, min(south, north), east, max(south, north))
    read_scene(item_at(footprint, find_bbox(footprint)))
