"""GeoJSON geometries in longitude and latitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

#: ``(n, 2)``: longitude, latitude in degrees.
Points = NDArray[np.float64]
_TYPES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
MAX_POSITIONS = 100_000
#: RFC 7946, 3.1.6: fewer enclose nothing, so that nothing would be found.
_RING_POSITIONS = 4
#: Of a footprint that is left whole where it crosses the antimeridian: 179 to 181.
_FARTHEST_LONGITUDE = 360
_TURNS = (0.0, -360.0, 360.0)


def read_geometry(text: str | bytes) -> dict[str, Any]:
    """The geometry that a GeoJSON text holds: itself, a feature's, or that of a collection's one feature.

    Raises:
        ValueError: not JSON, no such geometry, coordinates that are no degrees, or a ring of a few.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list) or len(features) != 1:
            raise ValueError("a FeatureCollection must hold one feature: merge them into a MultiPolygon")
        document = features[0]
    if isinstance(document, dict) and document.get("type") == "Feature":
        document = document.get("geometry")
    parts = _Parts(document)
    if parts.positions == 0:
        raise ValueError("the geometry is empty")
    if any(len(ring) < _RING_POSITIONS for rings in parts.polygons for ring in rings):
        raise ValueError(f"a polygon has a ring of fewer than {_RING_POSITIONS} positions")
    return {"type": document["type"], "coordinates": document["coordinates"]}


def build_box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """The geometry of a box; one that crosses the antimeridian (west > east) becomes two."""
    if west <= east:
        return {"type": "Polygon", "coordinates": [_box_ring(west, south, east, north)]}
    halves = [_box_ring(west, south, 180.0, north), _box_ring(-180.0, south, east, north)]
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in halves]}


def geometries_meet(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two geometries share a point, edges included, on the plane of longitude and latitude.

    Longitudes beyond 180 are those of the antimeridian's other side.

    Raises:
        ValueError: one of them is no geometry.
    """
    one, other = _Parts(first, _FARTHEST_LONGITUDE), _Parts(second, _FARTHEST_LONGITUDE)
    if not one.positions or not other.positions:
        return False
    beyond = max(np.abs(parts.box[:, 0]).max() for parts in (one, other)) > 180
    return any(_parts_meet(one, other.turn(degrees)) for degrees in (_TURNS if beyond else _TURNS[:1]))


def _parts_meet(one: _Parts, other: _Parts) -> bool:
    if not _boxes_meet(one.box, other.box):
        return False
    if one.covers_any(other.vertices) or other.covers_any(one.vertices):
        return True
    fewer, more = sorted((one.segments, other.segments), key=len)
    return any(_crosses_any(segment, more) for segment in fewer)


def find_inside(points: Points, rings: Sequence[Points]) -> NDArray[np.bool_]:
    """Which of ``points`` lie inside ``rings``, bool ``(n,)``: the even-odd rule, so holes are outside."""
    x, y = points[:, 0], points[:, 1]
    inside = np.zeros(len(points), bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (y0 > y) != (y1 > y)
                inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


class _Parts:
    """The polygons, segments and vertices of a geometry."""

    def __init__(self, geometry: Any, farthest_longitude: float = 180) -> None:
        self._farthest_longitude = farthest_longitude
        kind = geometry.get("type") if isinstance(geometry, Mapping) else None
        if kind not in _TYPES:
            raise ValueError(f"not a geometry of type {', '.join(_TYPES)}")
        self.paths: list[Points] = []
        self.polygons: list[list[Points]] = []
        self.positions = 0
        coordinates = geometry.get("coordinates")
        if kind.endswith("Polygon"):
            for polygon in [coordinates] if kind == "Polygon" else _as_list(coordinates):
                self.polygons.append([self._read_path(ring) for ring in _as_list(polygon)])
        else:
            # A point is a path of one vertex: a segment of no length.
            paths = {"Point": [[coordinates]], "LineString": [coordinates]}.get(kind) or _as_list(coordinates)
            for path in paths:
                self._read_path([path] if kind == "MultiPoint" else path)

    def turn(self, degrees: float) -> _Parts:
        """These parts so many degrees farther east."""
        turned = copy(self)
        shift = np.array([degrees, 0.0])
        turned.paths = [path + shift for path in self.paths]
        turned.polygons = [[ring + shift for ring in rings] for rings in self.polygons]
        return turned

    @property
    def vertices(self) -> Points:
        return np.concatenate(self.paths)

    @property
    def segments(self) -> NDArray[np.float64]:
        """``(n, 2, 2)``: both ends of every edge."""
        pieces = [
            np.stack([path[:-1], path[1:]], axis=1) if len(path) > 1 else np.stack([path, path], axis=1)
            for path in self.paths
        ]
        return np.concatenate(pieces)

    @property
    def box(self) -> NDArray[np.float64]:
        """``((west, south), (east, north))``."""
        vertices = self.vertices
        return np.stack([vertices.min(axis=0), vertices.max(axis=0)])

    def covers_any(self, points: Points) -> bool:
        """Whether one of ``points`` lies inside one of the polygons."""
        return any(bool(find_inside(points, rings).any()) for rings in self.polygons)

    def _read_path(self, positions: Any) -> Points:
        """A ring, line or point as an array; remembered as one of the paths."""
        positions = _as_list(positions)
        self.positions += len(positions)
        if self.positions > MAX_POSITIONS:
            raise ValueError(f"the geometry has more than {MAX_POSITIONS} positions")
        farthest = self._farthest_longitude
        path = np.array([_read_position(each, farthest) for each in positions], np.float64).reshape(-1, 2)
        if len(path):
            self.paths.append(path)
        return path


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError("its coordinates are not nested as its type demands")
    return list(value)


def _read_position(position: Any, farthest_longitude: float) -> tuple[float, float]:
    values = _as_list(position)[:2]
    if len(values) < 2 or not all(type(value) in {int, float} for value in values):
        raise ValueError("a position is not two numbers")
    lon, lat = values
    if not (abs(lon) <= farthest_longitude and -90 <= lat <= 90):
        raise ValueError(f"position {lon:g}, {lat:g} is not in degrees of longitude and latitude")
    return (float(lon), float(lat))


def _box_ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _boxes_meet(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((one[0] <= other[1]).all() and (other[0] <= one[1]).all())


def _crosses_any(segment: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Whether ``segment`` ``(2, 2)`` touches one of ``others`` ``(n, 2, 2)``."""
    start, end = segment
    low, high = segment.min(axis=0), segment.max(axis=0)
    near = ((others.min(axis=1) <= high) & (others.max(axis=1) >= low)).all(axis=1)
    others = others[near]
    if not len(others):
        return False
    sides = _side(start, end, others[:, 0]) * _side(start, end, others[:, 1])
    other_sides = _side(others[:, 0], others[:, 1], start) * _side(others[:, 0], others[:, 1], end)
    return bool(((sides <= 0) & (other_sides <= 0)).any())


def _side(start: NDArray[Any], end: NDArray[Any], point: NDArray[Any]) -> NDArray[np.float64]:
    """-1, 0 or 1: on which side of the line from ``start`` to ``end`` ``point`` lies."""
    along, to = end - start, point - start
    side: NDArray[np.float64] = np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])
    return side
