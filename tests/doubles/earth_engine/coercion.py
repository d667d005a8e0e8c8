"""Values as the type that an algorithm's argument declares."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.grids import Projection
from tests.doubles.earth_engine.images import Collection, Feature, Image, constant_image
from tests.doubles.earth_engine.values import Date, DateRange


def coerce(value: Any, declared: str) -> Any:
    """``value`` for an argument of type ``declared``; types that need no care pass through."""
    if value is None:
        return None
    if declared.startswith("List<"):
        inner = declared.removeprefix("List<").removesuffix(">")
        return [coerce(part, inner) for part in to_list(value)]
    convert = _CONVERSIONS.get(declared.partition("<")[0])
    return convert(value) if convert else value


def to_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, str | int | float):
        return [value]
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to a list.")


def to_image(value: Any) -> Image:
    if isinstance(value, Image):
        return value
    if isinstance(value, bool | int | float):
        return constant_image(float(value))
    if isinstance(value, list) and all(isinstance(part, int | float) for part in value):
        return constant_image([float(part) for part in value])
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to Image.")


def to_collection(value: Any) -> Collection:
    if isinstance(value, Collection):
        return value
    if isinstance(value, Feature | Image):
        return Collection((value,))
    if isinstance(value, Geometry):
        return Collection((Feature(value),))
    if isinstance(value, list):
        return Collection(tuple(to_element(part) for part in value))
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to a collection.")


def to_element(value: Any) -> Feature | Image:
    if isinstance(value, Feature | Image):
        return value
    if isinstance(value, Geometry):
        return Feature(value)
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to Element.")


def to_geometry(value: Any) -> Geometry:
    """A geometry, that of an element, or the union of a collection's."""
    if isinstance(value, Geometry):
        return value
    if isinstance(value, dict) and "type" in value:
        return Geometry.from_geojson(value)
    if isinstance(value, Feature) and value.geometry:
        return value.geometry
    if isinstance(value, Image) and value.footprint:
        return value.footprint
    if isinstance(value, Collection) and value.elements:
        first, *rest = (to_geometry(element) for element in value.elements)
        for geometry in rest:
            first = first.union(geometry)
        return first
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to a bounded Geometry.")


def to_projection(value: Any) -> Projection:
    if isinstance(value, Projection):
        return value
    if isinstance(value, str):
        return Projection(value)
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to Projection.")


def to_date(value: Any) -> Date:
    """Milliseconds, an ISO date, or a date."""
    if isinstance(value, Date):
        return value
    if isinstance(value, int | float):
        return Date(int(value))
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise EarthEngineError(f"Invalid date '{value}'.") from None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return Date(round(moment.timestamp() * 1000))
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to Date.")


def to_date_range(value: Any) -> DateRange:
    if isinstance(value, DateRange):
        return value
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to DateRange.")


def to_number(value: Any) -> int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to Number.")


def to_integer(value: Any) -> int:
    return int(to_number(value))


def to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to String.")


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "Image": to_image,
    "FeatureCollection": to_collection,
    "ImageCollection": to_collection,
    "Element": to_element,
    "Geometry": to_geometry,
    "Projection": to_projection,
    "Date": to_date,
    "DateRange": to_date_range,
    "Number": to_number,
    "Float": to_number,
    "Integer": to_integer,
    "Long": to_integer,
    "String": to_string,
    "List": to_list,
}
