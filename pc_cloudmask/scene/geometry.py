"""GeoJSON geometries in longitude and latitude, and the boxes that contain MGRS tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import numpy as np
import orjson
import shapely
import shapely.errors
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from shapely.affinity import translate
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from pc_cloudmask.text import decode_text

#: ``(west, south, east, north)`` in degrees; west > east crosses the antimeridian.
BBox = tuple[float, float, float, float]
#: Limit for geometries from users: the time to compare geometries is proportional to it.
MAX_POSITIONS = 100_000
#: A footprint of Sentinel-2 has 5 to 20 positions.
MAX_FOOTPRINT_POSITIONS = 10_000
#: Longitudes beyond 180 lie across the antimeridian: the Planetary Computer leaves such a footprint in one piece, 179
#: to 181.
FARTHEST_LONGITUDE = 360
_TURNS = (0, -360, 360)

#: Where GeoJSON collections have their members; they are seldom nested, and never deeply.
_MEMBERS = {"FeatureCollection": "features", "GeometryCollection": "geometries"}
_DEEPEST = 8
#: Half the width in degrees, a centimetre, given to a point or line that is merged with areas.
_HAIR_DEG = 1e-7

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
#: A third coordinate, the height, is dropped.
_Position = Annotated[list[_Number], Field(min_length=2, max_length=3), AfterValidator(lambda each: each[:2])]
_Line = Annotated[list[_Position], Field(min_length=2, fail_fast=True)]
#: RFC 7946, 3.1.6: fewer positions do not enclose an area.
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
    """Return a GeoJSON geometry in the plane of longitude and latitude; raise ValueError for what is none on Earth."""
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
    _check_positions(built)
    if (np.abs(shapely.get_coordinates(built)) > (farthest_longitude, 90)).any():
        raise ValueError(
            f"has positions beyond {farthest_longitude:g} degrees of longitude or 90 of latitude"
        )
    return built


def check_footprint(geometry: Any) -> Any:
    """Return an item's geometry; raise ValueError if it is no area or has too many positions."""
    footprint = build_shape(geometry)
    if not isinstance(footprint, shapely.Polygon | shapely.MultiPolygon) or footprint.is_empty:
        raise ValueError("is not a Polygon or MultiPolygon, or is empty")
    _check_positions(footprint, MAX_FOOTPRINT_POSITIONS)
    return geometry


def _check_positions(geometry: BaseGeometry, most: int = MAX_POSITIONS) -> None:
    if shapely.get_num_coordinates(geometry) > most:
        raise ValueError(f"has more than {most} positions")


def read_geometry(text: str | bytes) -> dict[str, Any]:
    """Return the geometry in a GeoJSON text: a geometry, a feature's, or that of a collection of either.

    The members of a collection become one geometry: areas are merged. ValueError: it has none, or an empty one.
    """
    try:
        document = orjson.loads(decode_text(text) if isinstance(text, bytes) else text.removeprefix("\ufeff"))
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    found = list(islice(_list_geometries(document), MAX_POSITIONS + 1))
    if len(found) > MAX_POSITIONS:
        raise ValueError(f"has more than {MAX_POSITIONS} geometries")
    shapes = [build_shape(geometry, farthest_longitude=180) for geometry in found]
    if all(each.is_empty for each in shapes):
        raise ValueError("is empty")
    if len(found) == 1:
        return {"type": found[0]["type"], "coordinates": found[0]["coordinates"]}
    return _merge([each for each in shapes if not each.is_empty])


def _list_geometries(document: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the geometries in a GeoJSON object other than a geometry; a feature may have none."""
    kind = document.get("type") if isinstance(document, dict) else None
    members = document.get(_MEMBERS.get(str(kind))) if isinstance(document, dict) else None
    if kind == "Feature":
        if document.get("geometry") is not None:
            yield from _list_geometries(document["geometry"], depth)
    elif isinstance(members, list) and depth < _DEEPEST:
        for member in members:
            yield from _list_geometries(member, depth + 1)
    else:
        yield document


def _merge(shapes: Sequence[BaseGeometry]) -> dict[str, Any]:
    """Return the union of ``shapes`` as one GeoJSON geometry, not a collection, since few APIs accept these."""
    try:
        union = shapely.unary_union([shapely.make_valid(each) for each in shapes])
    except shapely.errors.GEOSException as error:
        raise ValueError(f"holds geometries that cannot be merged: {error}") from error
    if union.geom_type == "GeometryCollection":  # a mixture of areas and separate lines or points
        union = shapely.unary_union(
            [each if shapely.get_dimensions(each) == 2 else each.buffer(_HAIR_DEG) for each in union.geoms]
        )
    _check_positions(union)
    merged: dict[str, Any] = orjson.loads(shapely.to_geojson(union))
    return merged


def build_box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """Return the geometry of a box; one that crosses the antimeridian (west > east) becomes two."""
    sides = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    rings = [[[w, south], [e, south], [e, north], [w, north], [w, south]] for w, e in sides]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def prepare_area(area: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool]:
    """Return a function that says whether a footprint shares a point with ``area``, edges included.

    Longitudes beyond 180 are on the other side of the antimeridian. No tile is wider than half the Earth, so a
    footprint that appears to be crosses the antimeridian. Both raise ValueError for what is not a geometry.
    """
    other = build_shape(area)
    turned = {degrees: translate(other, degrees) for degrees in _TURNS}

    def meets(footprint: Mapping[str, Any]) -> bool:
        one = _unwrap(build_shape(footprint))
        west, _, east, _ = shapely.total_bounds([one, other])
        turns = _TURNS if max(-west, east) > 180 else (0,)
        return any(bool(shapely.intersects(one, turned[degrees])) for degrees in turns)

    return meets


def _unwrap(footprint: BaseGeometry) -> BaseGeometry:
    """Return a footprint whose ring jumps across the antimeridian as one that continues beyond 180."""

    def shift(polygon: BaseGeometry) -> BaseGeometry:
        west, _, east, _ = polygon.bounds
        if east - west <= 180:
            return polygon
        return shapely.transform(polygon, lambda each: np.column_stack((each[:, 0] % 360, each[:, 1])))

    if isinstance(footprint, shapely.Polygon | shapely.MultiPolygon) and not footprint.is_empty:
        return shapely.MultiPolygon([shift(polygon) for polygon in shapely.get_parts(footprint)])
    return footprint


def find_bbox(geometry: Mapping[str, Any]) -> list[float]:
    """Return west, south, east and north of a geometry that is not empty, in degrees.

    No tile is wider than half the Earth, so a geometry that appears to be crosses the antimeridian: its west is then
    greater than its east. A geometry that reaches a pole has every longitude.
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


#: Letters of the 100 km columns, west to east, by the zone number modulo 3; the first begins at 100 km.
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
#: Letters of the 100 km rows, south to north, repeating; in even zones they begin with F.
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_LATITUDE_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_SQUARE_M, _ROW_CYCLE_M = 100_000, 2_000_000
#: Edge of a Sentinel-2 tile, which extends beyond its square to the south and east.
_TILE_M = 109_800
_MARGIN_M = 1_000
_DEGREE_M = 111_000
_EDGE_POINTS = 12


def build_zone_box(band: str) -> BBox:
    """Return a box that contains every tile of a zone and band such as ``22K``, in degrees.

    West and east may lie beyond 180. Tiles extend beyond their band by up to the edge of a tile; from 56 N to 64 N, and
    from 72 N on, zones are wider than six degrees.
    """
    zone, letter = int(band[:2]), band[2]
    south = -80 + 8 * _LATITUDE_BANDS.index(letter)
    north = 84 if letter == "X" else south + 8
    margin = 1 + _TILE_M / (_DEGREE_M * np.cos(np.radians(max(-south, north))))
    margin += 6 if letter in "VX" else 0
    west = 6 * zone - 186
    return (west - margin, south - 1.5, west + 6 + margin, north + 1.5)


def build_tile_box(tile: str) -> BBox:
    """Return a box that contains a tile such as ``22KFV``, in degrees; west and east may lie beyond 180."""
    zone, letter = int(tile[:2]), tile[2]
    west_m = _SQUARE_M * (1 + _COLUMNS[zone % 3].index(tile[3])) - _MARGIN_M
    north_m = _find_square(zone, letter, tile[4]) + _SQUARE_M + _MARGIN_M
    edge_m = _TILE_M + 2 * _MARGIN_M
    epsg = (32600 if letter >= "N" else 32700) + zone
    bounds_m = (west_m, north_m - edge_m, west_m + edge_m, north_m)
    return find_degrees(f"EPSG:{epsg}", bounds_m, 6 * zone - 183)


def find_degrees(
    crs: str, bounds: tuple[float, float, float, float], middle_deg: float | None = None
) -> BBox:
    """Return the box in degrees around ``bounds`` in a CRS: west and east may lie beyond 180.

    They are within half a turn of ``middle_deg``, by default of the upper left corner.
    """
    from rasterio.warp import transform  # noqa: PLC0415 - takes a second with PROJ

    west, south, east, north = bounds
    steps = np.linspace(0, 1, _EDGE_POINTS)
    across, down = (each.ravel() for each in np.meshgrid(steps, steps))
    eastings, northings = west + across * (east - west), north - down * (north - south)
    lons, lats = map(np.array, transform(crs, "EPSG:4326", eastings, northings))
    middle = lons[0] if middle_deg is None else middle_deg
    lons = middle + (lons - middle + 180) % 360 - 180
    return (float(lons.min()), float(lats.min()), float(lons.max()), float(lats.max()))


def boxes_meet(one: BBox, other: BBox) -> bool:
    """Return True if two boxes share a point; west may exceed east, and both may lie beyond 180."""
    if one[1] > other[3] or other[1] > one[3]:
        return False
    width, other_width = (east - west + 360 * (west > east) for west, _, east, _ in (one, other))
    return (other[0] - one[0]) % 360 <= width or (one[0] - other[0]) % 360 <= other_width


def _find_square(zone: int, band: str, row: str) -> int:
    """Return the northing of the lower edge of the square with letter ``row``, for the repetition within ``band``."""
    first = (_ROWS.index(row) - (5 if zone % 2 == 0 else 0)) % len(_ROWS) * _SQUARE_M
    middle_deg = -76 + 8 * _LATITUDE_BANDS.index(band)
    middle_m = middle_deg * _DEGREE_M + (10_000_000 if band < "N" else 0)
    repeats = round((middle_m - first - _SQUARE_M / 2) / _ROW_CYCLE_M)
    return first + repeats * _ROW_CYCLE_M
