"""Geometries and projections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from tests.doubles.earth_engine.coercion import to_geometry, to_projection
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.geometries import LONLAT, Geometry
from tests.doubles.earth_engine.grids import Projection
from tests.doubles.earth_engine.images import Feature


def _rectangle(coordinates: list[Any]) -> shapely.Geometry:
    flat = np.ravel(coordinates)
    return shapely.box(*flat)


def _constructor(build: Callable[[list[Any]], shapely.Geometry]) -> Callable[..., Geometry]:
    """A geometry in degrees, or in the pixels of a projection."""

    def construct(coordinates: list[Any], crs: Any = None, *_: Any) -> Geometry:
        try:
            shape = build(coordinates)
        except (TypeError, ValueError, shapely.errors.GEOSException) as error:
            raise EarthEngineError(f"Invalid GeoJSON geometry: {error}.") from error
        if crs is None:
            return Geometry(shape, LONLAT)
        projection = to_projection(crs)
        a, b, c, d, e, f = projection.transform

        def to_coordinates(pixels: Any) -> Any:
            cols, rows = pixels[:, 0], pixels[:, 1]
            return np.column_stack((a * cols + b * rows + c, d * cols + e * rows + f))

        return Geometry(shapely.transform(shape, to_coordinates), projection.crs)

    return construct


def _box(west: float, south: float, east: float, north: float) -> Geometry:
    return Geometry(shapely.box(west, south, east, north))


def _multi(geometries: list[Geometry], *_: Any) -> Geometry:
    return Geometry(shapely.GeometryCollection([part.to_crs(LONLAT).shape for part in geometries]))


_CONSTRUCTORS: dict[str, Callable[[list[Any]], shapely.Geometry]] = {
    "Point": shapely.Point,
    "MultiPoint": shapely.MultiPoint,
    "LineString": shapely.LineString,
    "LinearRing": shapely.LinearRing,
    "Polygon": lambda rings: shapely.Polygon(rings[0], rings[1:]),
    "MultiPolygon": lambda parts: shapely.MultiPolygon([(part[0], part[1:]) for part in parts]),
    "Rectangle": _rectangle,
}


def _contains(left: Geometry, right: Geometry, *_: Any) -> bool:
    return bool(left.to_crs(LONLAT).shape.contains(right.to_crs(LONLAT).shape))


def _bounds(geometry: Geometry, *_: Any) -> Geometry:
    return Geometry(shapely.box(*geometry.to_crs(LONLAT).shape.bounds))


def _centroid(geometry: Geometry, *_: Any) -> Geometry:
    return Geometry(geometry.shape.centroid, geometry.crs)


def _transform(geometry: Geometry, projection: Any, *_: Any) -> Geometry:
    crs = projection["crs"] if isinstance(projection, dict) else to_projection(projection).crs
    return geometry.to_crs(crs)


_OF_GEOMETRY: dict[str, Callable[..., Any]] = {
    "area": lambda geometry, *_: geometry.area_m2,
    "bounds": _bounds,
    "centroid": _centroid,
    "contains": _contains,
    "intersection": lambda left, right, *_: left.intersection(right),
    "intersects": lambda left, right, *_: left.intersects(right),
    "union": lambda left, right, *_: left.union(right),
}


def _of_feature(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for features: a geometry that results takes the place of the first one's."""

    def apply(feature: Feature, *others: Any) -> Any:
        geometries = [to_geometry(part) if isinstance(part, Feature) else part for part in others]
        result = function(to_geometry(feature), *geometries)
        return replace(feature, geometry=result) if isinstance(result, Geometry) else result

    return apply


def _projection(crs: Any, transform: list[float] | None, _wkt: str | None) -> Projection:
    projection = to_projection(crs)
    if transform is None:
        return projection
    a, b, c, d, e, f = (float(part) for part in transform)
    return Projection(projection.crs, (a, b, c, d, e, f))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"GeometryConstructors.{name}": _constructor(build) for name, build in _CONSTRUCTORS.items()},
    "GeometryConstructors.BBox": _box,
    "GeometryConstructors.MultiGeometry": _multi,
    **{f"Geometry.{name}": function for name, function in _OF_GEOMETRY.items()},
    **{f"Feature.{name}": _of_feature(function) for name, function in _OF_GEOMETRY.items()},
    # Geometries are exact here: there is no error to allow.
    "ErrorMargin": lambda value, _unit: value,
    "Geometry.coordinates": lambda geometry: geometry.to_geojson()["coordinates"],
    "Geometry.transform": _transform,
    "Geometry.type": lambda geometry: geometry.shape.geom_type,
    "Projection": _projection,
    "Projection.atScale": lambda projection, metres: projection.at_scale(metres),
    "Projection.crs": lambda projection: projection.crs,
    "Projection.nominalScale": lambda projection: projection.nominal_scale,
    "Projection.scale": lambda projection, x, y: projection.scaled(x, y),
    "Projection.translate": lambda projection, x, y: projection.translated(x, y),
}
