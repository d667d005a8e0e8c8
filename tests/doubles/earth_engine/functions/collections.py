"""Collections of images and features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

from tests.doubles.earth_engine.coercion import to_collection, to_element, to_geometry
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.functions.elements import get_property
from tests.doubles.earth_engine.functions.filters import ANY_GEOMETRY
from tests.doubles.earth_engine.functions.masks import overlaid
from tests.doubles.earth_engine.functions.reprojection import set_default_projection
from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.images import WGS84, Collection, Element, Image
from tests.doubles.earth_engine.values import Filter, Reducer


def _filter(collection: Collection, condition: Filter) -> Collection:
    return collection.with_elements(
        element for element in collection.elements if condition.holds(element, element)
    )


def _map(collection: Collection, function: Callable[[Any], Any], drop_nulls: bool) -> Collection:
    mapped = [function(element) for element in collection.elements]
    if drop_nulls:
        mapped = [element for element in mapped if element is not None]
    if None in mapped:
        raise EarthEngineError("Collection.map: A mapped algorithm must return a Feature or an Image.")
    return collection.with_elements(to_element(element) for element in mapped)


def _limit(collection: Collection, limit: int | None, key: str | None, ascending: bool) -> Collection:
    """The first ``limit`` elements, in order of ``key``; elements without it come last."""
    elements: Iterable[Element] = collection.elements
    if key is not None:
        keyed = [(get_property(element, key), element) for element in elements]
        known = sorted(
            ((value, element) for value, element in keyed if value is not None),
            key=lambda pair: pair[0],
            reverse=not ascending,
        )
        elements = [element for _, element in known] + [element for value, element in keyed if value is None]
    return collection.with_elements(tuple(elements)[:limit])


def _first(collection: Collection) -> Element | None:
    return collection.elements[0] if collection.elements else None


def _to_list(collection: Collection, count: int, offset: int) -> list[Element]:
    return list(collection.elements[offset : offset + count])


def _distinct(collection: Collection, properties: Any) -> Collection:
    """The first element of each combination of values."""
    names = [properties] if isinstance(properties, str) else list(properties)
    found: dict[str, Element] = {}
    for element in collection.elements:
        found.setdefault(repr([_column(element, name) for name in names]), element)
    return collection.with_elements(found.values())


def _column(element: Element, name: str) -> Any:
    if name in ANY_GEOMETRY:
        return to_geometry(element).to_geojson()
    return get_property(element, name)


def _reduce_columns(
    collection: Collection, reducer: Reducer, selectors: list[str], weights: list[str] | None
) -> dict[str, Any]:
    if weights:
        raise EarthEngineError("Weights are not supported by this reducer.")
    if len(selectors) != reducer.inputs:
        raise EarthEngineError(
            f"Need {reducer.inputs} input(s) for this reducer, got {len(selectors)} selectors."
        )
    rows = [[get_property(element, name) for name in selectors] for element in collection.elements]
    return reducer.reduce(rows)


def _mosaic(collection: Collection) -> Image:
    """The images over each other, the last on top; its projection is none of theirs but degrees."""
    images = [element for element in collection.elements if isinstance(element, Image)]
    if not images:
        return Image(())
    first = images[0]
    bands = list(first.bands)
    for image in images[1:]:
        if image.band_names != first.band_names:
            raise EarthEngineError(
                "Expected a homogeneous image collection, but an image with incompatible bands was "
                "encountered."
            )
        bands = [overlaid(lower, upper) for lower, upper in zip(bands, image.bands, strict=True)]
    footprints = [image.footprint for image in images]
    footprint = None if None in footprints else reduce(_union, footprints)
    mosaic = Image(tuple(bands), {}, footprint)
    return set_default_projection(mosaic, WGS84, None, None)


def _union(left: Geometry | None, right: Geometry | None) -> Geometry | None:
    return left.union(right) if left and right else None


def _merge(first: Collection, second: Collection) -> Collection:
    """Both; each element's index says which one it comes from."""
    prefixed = [
        _with_index(element, f"{n}_{get_property(element, 'system:index')}")
        for n, collection in ((1, first), (2, second))
        for element in collection.elements
    ]
    return first.with_elements(prefixed)


def _with_index(element: Element, index: str) -> Element:
    return replace(element, properties={**element.properties, "system:index": index})


def _from_list(elements: list[Any]) -> Collection:
    """A collection whose elements without an index get their number."""
    indexed = [
        element if "system:index" in element.properties else _with_index(element, str(n))
        for n, element in enumerate(to_element(part) for part in elements)
    ]
    return Collection(tuple(indexed))


def _flatten(collection: Collection) -> Collection:
    parts = [to_collection(element) for element in collection.elements]
    return Collection(tuple(element for part in parts for element in part.elements))


def _values(collection: Collection, name: str) -> list[Any]:
    """The property of the elements that have it."""
    values = [_column(element, name) for element in collection.elements]
    return [value for value in values if value is not None]


def _aggregate(function: Callable[[list[Any]], Any]) -> Callable[[Collection, str], Any]:
    return lambda collection, name: function(_values(collection, name))


_AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "array": list,
    "count": len,
    "count_distinct": lambda values: len({repr(value) for value in values}),
    "first": lambda values: values[0] if values else None,
    "histogram": lambda values: dict(Counter(str(value) for value in values)),
    "max": lambda values: max(values, default=None),
    "mean": lambda values: sum(values) / len(values) if values else None,
    "min": lambda values: min(values, default=None),
    "sum": sum,
}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Collection": _from_list,
    "Collection.distinct": _distinct,
    "Collection.filter": _filter,
    "Collection.first": _first,
    "Collection.flatten": _flatten,
    "Collection.geometry": lambda collection, _error: to_geometry(collection),
    "Collection.limit": _limit,
    "Collection.map": _map,
    "Collection.merge": _merge,
    "Collection.reduceColumns": _reduce_columns,
    "Collection.size": lambda collection: len(collection.elements),
    "Collection.toList": _to_list,
    "ImageCollection.fromImages": _from_list,
    "ImageCollection.merge": _merge,
    "ImageCollection.mosaic": _mosaic,
    **{f"AggregateFeatureCollection.{name}": _aggregate(function) for name, function in _AGGREGATES.items()},
}
