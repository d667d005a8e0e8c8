"""Values as the JSON that ``getInfo`` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.grids import Projection
from tests.doubles.earth_engine.images import Band, Collection, Feature, Image, PixelType
from tests.doubles.earth_engine.values import Date, DateRange

COLLECTION_LIMIT = 5000
"""Elements that one answer may hold."""


def to_document(value: Any) -> Any:
    """The JSON of a value.

    Raises:
        EarthEngineError: more than 5000 elements, or nothing that can be told in JSON.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [to_document(part) for part in value]
    if isinstance(value, dict):
        return {key: to_document(part) for key, part in value.items()}
    return _object_document(value)


def _object_document(value: Any) -> Any:
    build = _DOCUMENTS.get(type(value))
    if build is None:
        raise EarthEngineError(f"Cannot encode a {type(value).__name__} in the answer.")
    return build(value)


def band_document(image: Image, band: Band) -> dict[str, Any]:
    """A band's type and grid; its size is left out where the image has no bounds."""
    document: dict[str, Any] = {"id": band.name, "data_type": _type_document(band.pixel_type)}
    block = image.block_of(band)
    if block:
        document["dimensions"] = [block.width, block.height]
        if (block.col, block.row) != (0, 0):
            document["origin"] = [block.col, block.row]
    return document | {"crs": band.projection.crs, "crs_transform": list(band.projection.transform)}


def _type_document(pixel_type: PixelType) -> dict[str, Any]:
    document: dict[str, Any] = {"type": "PixelType", "precision": pixel_type.precision}
    if pixel_type.min is not None and pixel_type.max is not None:
        document |= {"min": pixel_type.min, "max": pixel_type.max}
    return document


def image_document(image: Image) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": "Image",
        "bands": [band_document(image, band) for band in image.bands],
    }
    if image.id:
        document["id"] = image.id
    properties = {name: to_document(value) for name, value in image.properties.items()}
    if image.footprint is not None:
        properties["system:footprint"] = image.footprint.ring.to_geojson()
    return document | {"properties": properties}


def _feature_document(feature: Feature) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": feature.geometry.to_geojson() if feature.geometry else None,
        "id": feature.id or feature.properties.get("system:index", "0"),
        "properties": {name: to_document(value) for name, value in feature.properties.items()},
    }


def _collection_document(collection: Collection) -> dict[str, Any]:
    if len(collection.elements) > COLLECTION_LIMIT:
        raise EarthEngineError(
            f"Collection query aborted after accumulating over {COLLECTION_LIMIT} elements."
        )
    kind = "ImageCollection" if collection.is_images else "FeatureCollection"
    document: dict[str, Any] = {"type": kind}
    if kind == "ImageCollection":
        document["bands"] = []
    if collection.id:
        document["id"] = collection.id
    return document | {"features": [to_document(element) for element in collection.elements]}


def _projection_document(projection: Projection) -> dict[str, Any]:
    return {"type": "Projection", "crs": projection.crs, "transform": list(projection.transform)}


def _date_range_document(dates: DateRange) -> dict[str, Any]:
    return {"type": "DateRange", "dates": [dates.start.millis, dates.end.millis]}


_DOCUMENTS: dict[type, Callable[[Any], Any]] = {
    Image: image_document,
    Feature: _feature_document,
    Collection: _collection_document,
    Geometry: Geometry.to_geojson,
    Projection: _projection_document,
    Date: lambda date: {"type": "Date", "value": date.millis},
    DateRange: _date_range_document,
}
