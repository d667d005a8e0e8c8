"""GeoJSON geometries in longitude and latitude."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import orjson
import shapely
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from shapely.affinity import translate
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

#: Of a geometry that a user gives: comparing geometries takes time in proportion.
MAX_POSITIONS = 100_000
#: A footprint of Sentinel-2 has 5 to 20.
MAX_FOOTPRINT_POSITIONS = 10_000
#: What reaches beyond 180 crosses the antimeridian: the Planetary Computer leaves such a footprint in one
#: piece, 179 to 181.
FARTHEST_LONGITUDE = 360
_TURNS = (0, -360, 360)

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
#: Its height, where there is one, is dropped.
_Position = Annotated[list[_Number], Field(min_length=2, max_length=3), AfterValidator(lambda each: each[:2])]
_Line = Annotated[list[_Position], Field(min_length=2, fail_fast=True)]
#: RFC 7946, 3.1.6: fewer positions enclose nothing.
_Ring = Annotated[list[_Position], Field(min_length=4, fail_fast=True)]
_Polygon = Annotated[list[_Ring], Field(min_length=1)]
_COORDINATES: dict[str, TypeAdapter[Any]] = {
    "Point": TypeAdapter(_Position),
    "MultiPoint": TypeAdapter(Annotated[list[_Position], Field(fail_fast=True)]),
    "LineString": TypeAdapter(_Line),
    "MultiLineString": TypeAdapter(list[_Line]),
    "Polygon": TypeAdapter(_Polygon),
    "MultiPolygon": TypeAdapter(list[_Polygon]),
}


def build_shape(geometry: Any, farthest_longitude: float = FARTHEST_LONGITUDE) -> BaseGeometry:
    """Return a GeoJSON geometry as shapely's, on the plane of longitude and latitude.

    Raises:
        ValueError: it is none, has more than ``MAX_POSITIONS`` positions, or leaves the Earth.
    """
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if not isinstance(kind, str) or kind not in _COORDINATES:
        raise ValueError(f"is not a geometry of type {', '.join(_COORDINATES)}")
    coordinates = geometry.get("coordinates")
    if coordinates != []:
        try:
            coordinates = _COORDINATES[kind].validate_python(coordinates)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "".join(f"[{step}]" for step in first["loc"])
            raise ValueError(f"has wrong coordinates{place}: {first['msg']}") from error
    built = shape({"type": kind, "coordinates": coordinates})
    if shapely.get_num_coordinates(built) > MAX_POSITIONS:
        raise ValueError(f"has more than {MAX_POSITIONS} positions")
    if (np.abs(shapely.get_coordinates(built)) > (farthest_longitude, 90)).any():
        raise ValueError(
            f"has positions beyond {farthest_longitude:g} degrees of longitude or 90 of latitude"
        )
    return built


def check_footprint(geometry: Any) -> Any:
    """Return an item's geometry if it is an area.

    Raises:
        ValueError: it is none, or has more than ``MAX_FOOTPRINT_POSITIONS`` positions.
    """
    footprint = build_shape(geometry)
    if not isinstance(footprint, shapely.Polygon | shapely.MultiPolygon) or footprint.is_empty:
        raise ValueError("is not a Polygon or MultiPolygon, or is empty")
    if shapely.get_num_coordinates(footprint) > MAX_FOOTPRINT_POSITIONS:
        raise ValueError(f"has more than {MAX_FOOTPRINT_POSITIONS} positions")
    return geometry


def read_geometry(text: str | bytes) -> dict[str, Any]:
    """Return the geometry that a GeoJSON text holds: itself, a feature's, or that of a collection's one feature.

    Raises:
        ValueError: not JSON, no geometry, or an empty one.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list) or len(features) != 1:
            raise ValueError("is a FeatureCollection, but not of one feature: merge them into a MultiPolygon")
        document = features[0]
    if isinstance(document, dict) and document.get("type") == "Feature":
        document = document.get("geometry")
    if build_shape(document, farthest_longitude=180).is_empty:
        raise ValueError("is empty")
    return {"type": document["type"], "coordinates": document["coordinates"]}


def build_box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """Return the geometry of a box; one that crosses the antimeridian (west > east) becomes two."""
    if west <= east:
        return {"type": "Polygon", "coordinates": [_box_ring(west, south, east, north)]}
    halves = [_box_ring(west, south, 180.0, north), _box_ring(-180.0, south, east, north)]
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in halves]}


def geometries_meet(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return True if two geometries share a point, edges included, on the plane of longitude and latitude.

    Longitudes beyond 180 are those of the antimeridian's other side.

    Raises:
        ValueError: one of them is no geometry.
    """
    one, other = build_shape(first), build_shape(second)
    west, _, east, _ = shapely.total_bounds([one, other])
    turns = _TURNS if max(-west, east) > 180 else (0,)
    return any(bool(shapely.intersects(one, translate(other, degrees))) for degrees in turns)


def find_bbox(geometry: Mapping[str, Any]) -> list[float]:
    """Return west, south, east, north of a geometry that is not empty, in degrees.

    No tile is wider than half the Earth, so what seems to be crosses the antimeridian: its west is
    then east of its east. What reaches a pole has every longitude.
    """
    longitudes, latitudes = shapely.get_coordinates(build_shape(geometry)).T
    longitudes[longitudes > 180] -= 360
    longitudes[longitudes < -180] += 360
    west, east = longitudes.min(), longitudes.max()
    if np.abs(latitudes).max() == 90:
        west, east = -180.0, 180.0
    elif east - west > 180:
        west, east = longitudes[longitudes > 0].min(), longitudes[longitudes <= 0].max()
    return [float(west), float(latitudes.min()), float(east), float(latitudes.max())]


def _box_ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
