"""Where on Earth a source item is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flows.stac.item_reader import ItemReader, is_number

MAX_POSITIONS = 10_000
"""A footprint of Sentinel-2 has 5 to 20; comparing footprints takes time in proportion."""
_LEAST_RING = 4
_FARTHEST_LONGITUDE = 360
"""Beyond 180: the Planetary Computer leaves a footprint across the antimeridian whole, 179 to 181."""

Geometry = Mapping[str, Any]


def read_footprint(reader: ItemReader) -> Geometry:
    """The item's geometry: a Polygon or MultiPolygon in degrees of longitude and latitude.

    Raises:
        MissingField, InvalidField: there is none, or it cannot be used.
    """
    geometry = reader.mapping("geometry")
    if geometry.get("type") not in ("Polygon", "MultiPolygon"):
        raise reader.invalid("geometry", "is neither a Polygon nor a MultiPolygon")
    rings = list(_list_rings(geometry))
    if not rings or not all(isinstance(ring, list) and len(ring) >= _LEAST_RING for ring in rings):
        raise reader.invalid("geometry", f"is not made of rings of at least {_LEAST_RING} positions")
    if sum(map(len, rings)) > MAX_POSITIONS:
        raise reader.invalid("geometry", f"has more than {MAX_POSITIONS} positions")
    if not all(_is_position(position) for ring in rings for position in ring):
        raise reader.invalid(
            "geometry", "has a position that is not longitude -360 to 360, latitude -90 to 90"
        )
    return geometry


def check_bbox(reader: ItemReader) -> None:
    """See that the item's bbox, where it has one, is what GeoJSON says.

    West may be east of east, or either lie beyond 180: such a box crosses the antimeridian.

    Raises:
        InvalidField: it is not.
    """
    if reader.find("bbox") is None:
        return
    bbox = reader.numbers("bbox")
    if len(bbox) not in (4, 6):
        raise reader.invalid("bbox", "does not have 4 or 6 numbers")
    (west, south), (east, north) = bbox[:2], bbox[len(bbox) // 2 :][:2]
    if not (_is_position([west, south]) and _is_position([east, north])):
        raise reader.invalid("bbox", "is not in degrees: longitude -360 to 360, latitude -90 to 90")
    if south > north:
        raise reader.invalid("bbox", "has its south above its north: the order is west, south, east, north")


def find_bbox(footprint: Geometry) -> list[float]:
    """West, south, east, north of a footprint, in degrees.

    No tile is wider than half the Earth, so what seems to be crosses the antimeridian: its west is
    then east of its east. What reaches a pole has every longitude.
    """
    positions = [position for ring in _list_rings(footprint) for position in ring]
    longitudes = [_turn_back(float(position[0])) for position in positions]
    latitudes = [float(position[1]) for position in positions]
    west, south, east, north = min(longitudes), min(latitudes), max(longitudes), max(latitudes)
    if max(-south, north) == 90:
        west, east = -180.0, 180.0
    elif east - west > 180:
        west = min(longitude for longitude in longitudes if longitude > 0)
        east = max(longitude for longitude in longitudes if longitude <= 0)
    return [west, south, east, north]


def _turn_back(longitude: float) -> float:
    """``longitude`` within 180 degrees of Greenwich."""
    return longitude - 360 if longitude > 180 else longitude + 360 if longitude < -180 else longitude


def _list_rings(geometry: Geometry) -> Iterator[Any]:
    """The rings of a polygon or of several; what is not nested as it should be counts as a ring."""
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry.get("type") == "Polygon" else coordinates
    for polygon in polygons if isinstance(polygons, list) else [polygons]:
        yield from polygon if isinstance(polygon, list) and polygon else [polygon]


def _is_position(position: Any) -> bool:
    if not isinstance(position, list) or len(position) not in (2, 3) or not all(map(is_number, position)):
        return False
    longitude, latitude = position[:2]
    return bool(abs(longitude) <= _FARTHEST_LONGITUDE and -90 <= latitude <= 90)
