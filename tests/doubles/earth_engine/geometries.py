"""Geometries with their CRS.

Edges are straight in the geometry's own CRS; areas are those of an equal-area projection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import geometry_mask
from shapely.geometry import mapping, shape

from tests.doubles.earth_engine.grids import Projection, Window, transformer

LONLAT = "EPSG:4326"
EQUAL_AREA = "EPSG:6933"
EDGE_SLACK_PX = 0.1
"""How near an edge of a region comes to an edge of a pixel before it is taken for the same.

An edge of 10 km that is straight in degrees is off by about a metre in UTM, one of 100 km by 100 m.
"""
EDGE_POINTS = 21
"""Points an edge is broken into before it is transformed, so that a straight edge may become a curve."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A shapely geometry in a CRS, x (longitude) first."""

    shape: shapely.Geometry
    crs: str = LONLAT

    @classmethod
    def from_geojson(cls, document: dict[str, Any]) -> Geometry:
        """The geometry of a GeoJSON object; a LinearRing, as ``system:footprint`` has it, is its polygon."""
        crs = document.get("crs", {}).get("properties", {}).get("name", LONLAT)
        if document["type"] == "LinearRing":
            return cls(shapely.Polygon(document["coordinates"]), crs)
        return cls(shape(document), crs)

    def to_crs(self, crs: str) -> Geometry:
        if crs == self.crs:
            return self
        dense = self.shape.segmentize(max(_extent(self.shape) / EDGE_POINTS, 1e-9))
        change = transformer(self.crs, crs)
        return Geometry(
            shapely.transform(dense, lambda xy: np.column_stack(change.transform(xy[:, 0], xy[:, 1]))), crs
        )

    def to_geojson(self) -> dict[str, Any]:
        """GeoJSON in longitude and latitude."""
        document = mapping(self.to_crs(LONLAT).shape)
        return {"type": document["type"], "coordinates": _lists(document["coordinates"])}

    def intersects(self, other: Geometry) -> bool:
        return bool(self.to_crs(LONLAT).shape.intersects(other.to_crs(LONLAT).shape))

    def intersection(self, other: Geometry) -> Geometry:
        crs = self.crs if other.crs == self.crs else LONLAT
        return Geometry(self.to_crs(crs).shape.intersection(other.to_crs(crs).shape), crs)

    def union(self, other: Geometry) -> Geometry:
        crs = self.crs if other.crs == self.crs else LONLAT
        return Geometry(self.to_crs(crs).shape.union(other.to_crs(crs).shape), crs)

    @property
    def ring(self) -> Geometry:
        """The outline of a polygon, as ``system:footprint`` has it; other geometries as they are."""
        if isinstance(self.shape, shapely.Polygon):
            return Geometry(self.shape.exterior, self.crs)
        return self

    def block_in(self, projection: Projection) -> Window:
        """The pixels of a projection that the geometry's bounds touch."""
        west, south, east, north = self.to_crs(projection.crs).shape.bounds
        xs, ys = np.array([west, west, east, east]), np.array([south, north, south, north])
        cols, rows = projection.to_pixels(xs, ys)
        col, row = math.floor(cols.min() + EDGE_SLACK_PX), math.floor(rows.min() + EDGE_SLACK_PX)
        right, bottom = math.ceil(cols.max() - EDGE_SLACK_PX), math.ceil(rows.max() - EDGE_SLACK_PX)
        return Window(projection, col, row, right - col, bottom - row)

    @property
    def area_m2(self) -> float:
        return float(self.to_crs(EQUAL_AREA).shape.area)

    def covers(self, window: Window) -> NDArray[np.bool_]:
        """Which of the window's pixel centres lie inside."""
        local = self.to_crs(window.projection.crs).shape
        if local.is_empty:
            return np.zeros(window.shape, bool)
        transform = Affine(*window.own_projection.transform)
        return geometry_mask([local], window.shape, transform, invert=True)


def _extent(geometry: shapely.Geometry) -> float:
    west, south, east, north = geometry.bounds
    return max(east - west, north - south)


def _lists(coordinates: Any) -> Any:
    """Tuples of GeoJSON as the lists that JSON has."""
    return [_lists(part) for part in coordinates] if isinstance(coordinates, tuple | list) else coordinates
