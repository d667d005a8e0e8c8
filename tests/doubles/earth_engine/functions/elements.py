"""Properties of images and features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.doubles.earth_engine.coercion import to_geometry
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.images import Element, Feature, Image
from tests.doubles.earth_engine.results import band_document


def get_property(element: Element, name: str) -> Any:
    """The property, or None; ``system:bands`` and ``system:id`` are computed."""
    if name == "system:id":
        return element.id
    if name == "system:footprint" and isinstance(element, Image):
        return element.footprint.ring if element.footprint else None
    if name == "system:bands" and isinstance(element, Image):
        return {band.name: band_document(element, band) for band in element.bands}
    return element.properties.get(name)


def _get_typed(types: type | tuple[type, ...], label: str) -> Callable[[Element, str], Any]:
    def get(element: Element, name: str) -> Any:
        value = get_property(element, name)
        if value is not None and not isinstance(value, types):
            raise EarthEngineError(f"Property '{name}' is not a {label}.")
        return value

    return get


def set_property(element: Element, name: str, value: Any) -> Element:
    return replace(element, properties={**element.properties, name: value})


def set_properties(element: Element, values: Mapping[str, Any]) -> Element:
    return replace(element, properties={**element.properties, **values})


def copy_properties(
    destination: Element, source: Element, names: list[str] | None, exclude: list[str] | None
) -> Element:
    """The source's properties on the destination; ``system:`` ones only where they are named."""
    chosen = names or [name for name in source.properties if not name.startswith("system:")]
    kept = {name: source.properties[name] for name in chosen if name in source.properties}
    for name in exclude or []:
        kept.pop(name, None)
    return set_properties(destination, kept)


def to_dictionary(element: Element, names: list[str] | None) -> dict[str, Any]:
    chosen = names or [name for name in element.properties if not name.startswith("system:")]
    return {name: get_property(element, name) for name in chosen}


def build_feature(geometry: Geometry | None, properties: Mapping[str, Any], _key: str | None) -> Feature:
    return Feature(geometry, properties)


def element_id(element: Element) -> str | None:
    return element.properties.get("system:index") or element.id


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Element.get": get_property,
    "Element.getNumber": _get_typed((int, float), "number"),
    "Element.getString": _get_typed(str, "string"),
    "Element.set": set_property,
    "Element.setMulti": set_properties,
    "Element.copyProperties": copy_properties,
    "Element.propertyNames": lambda element: sorted(element.properties),
    "Element.toDictionary": to_dictionary,
    "Image.id": element_id,
    "Feature.id": element_id,
    "Feature": build_feature,
    **{
        f"{kind}.geometry": lambda element, *_: to_geometry(element)
        for kind in ("Element", "Image", "Feature")
    },
}
