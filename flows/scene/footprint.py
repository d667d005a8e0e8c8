"""How much of one footprint others cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.scene.geometry import Points, find_inside

Geometry = Mapping[str, Any]
"""GeoJSON in longitude and latitude: Polygon, MultiPolygon, or Earth Engine's LinearRing."""

SAMPLES = 64
"""Points along an edge of the bounding box: coverage is known to about one part in 500."""


def sample_footprint(footprint: Geometry) -> Points:
    """Evenly spread points inside ``footprint``, ``(n, 2)`` longitude and latitude in degrees.

    Longitudes run on beyond 180 where the footprint crosses the antimeridian.
    """
    rings = _read_rings(footprint)
    vertices = np.concatenate(rings) if rings else np.zeros((0, 2))
    if not len(vertices):
        return vertices
    (west, south), (east, north) = vertices.min(axis=0), vertices.max(axis=0)
    # Centres of cells, so that no point lies on the edge of the box.
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES
    lon, lat = np.meshgrid(west + steps * (east - west), south + steps * (north - south))
    points = np.column_stack([lon.ravel(), lat.ravel()])
    return points[find_inside(points, rings)]


def find_covered(points: Points, footprint: Geometry) -> NDArray[np.bool_]:
    """Which of ``points`` (longitude and latitude in degrees, one at least) lie in it, bool ``(n,)``."""
    return find_inside(points, _read_rings(footprint, near_lon=float(points[0, 0])))


def _read_rings(footprint: Geometry, near_lon: float | None = None) -> list[Points]:
    """Every ring, its longitudes moved by whole turns to within 180 degrees of ``near_lon``."""
    rings = [np.array([point[:2] for point in ring], np.float64) for ring in _list_rings(footprint)]
    rings = [ring for ring in rings if len(ring) >= 3]
    if not rings:
        return []
    middle = float(rings[0][0, 0]) if near_lon is None else near_lon
    for ring in rings:
        ring[:, 0] -= 360 * np.round((ring[:, 0] - middle) / 360)
    return rings


def _list_rings(footprint: Geometry) -> list[Any]:
    coordinates = footprint.get("coordinates") or []
    match footprint.get("type"):
        case "LinearRing":
            return [coordinates]
        case "Polygon":
            return list(coordinates)
        case "MultiPolygon":
            return [ring for polygon in coordinates for ring in polygon]
        case _:
            return []
