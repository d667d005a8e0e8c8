"""What a set of published items covers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pc_cloudmask.scene.ids import TILE_FORM
from pc_cloudmask.scene.query import BBox, parse_instant
from pc_cloudmask.source.fields import is_number
from stac_ext.cloudmask import (
    CLEAR_PERCENTAGE_PROP,
    CLOUD_PERCENTAGE_PROP,
    METHOD_PROP,
    NODATA_PERCENTAGE_PROP,
    SHADOW_PERCENTAGE_PROP,
)

Range = tuple[float, float]
#: Properties of which the collection lists every value.
LISTED = ("platform", METHOD_PROP, "s2:processing_baseline", "proj:code")
#: Properties of which the collection tells the least and the greatest value.
MEASURED = (
    CLOUD_PERCENTAGE_PROP,
    SHADOW_PERCENTAGE_PROP,
    CLEAR_PERCENTAGE_PROP,
    NODATA_PERCENTAGE_PROP,
    "eo:cloud_cover",
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where, when, and with which properties items are.

    Two coverages merge into the one of all their items: in any order, any number of times. So the
    collection is brought up to date from its own document alone. ``bbox`` is ``(west, south, east,
    north)``; of items beyond the antimeridian it is the whole circle, since a union that crosses it
    would depend on the order of merging. ``interval`` holds RFC 3339 instants in UTC of one form, which
    sort as text. ``boxes`` are the same as ``bbox`` for each zone and band alone: where the masks are on
    a map, when ``bbox`` spans oceans.
    """

    bbox: BBox
    interval: tuple[str, str]
    values: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    ranges: Mapping[str, Range] = field(default_factory=dict, hash=False)
    boxes: Mapping[str, BBox] = field(default_factory=dict, hash=False)

    def merge(self, other: Coverage) -> Coverage:
        """The coverage of this one's items and ``other``'s."""
        starts, ends = zip(self.interval, other.interval, strict=True)
        return Coverage(
            _merge_boxes(self.bbox, other.bbox),
            (min(starts), max(ends)),
            {
                name: self.values.get(name, frozenset()) | other.values.get(name, frozenset())
                for name in self.values.keys() | other.values.keys()
            },
            {
                name: _merge_ranges(self.ranges.get(name), other.ranges.get(name))
                for name in self.ranges.keys() | other.ranges.keys()
            },
            {
                zone: _merge_boxes(self.boxes.get(zone), other.boxes.get(zone))
                for zone in self.boxes.keys() | other.boxes.keys()
            },
        )


def read_coverage(item: dict[str, Any]) -> Coverage:
    """What one published item covers; properties of another type than expected cover nothing.

    Raises:
        LookupError, TypeError, ValueError: the item does not say where and when it is.
    """
    west, south, east, north = _read_bbox(item["bbox"])
    if west > east or west < -180 or east > 180:
        west, east = -180.0, 180.0
    properties = item["properties"]
    instant = _format_instant(properties["datetime"])
    tile = properties.get("s2:mgrs_tile")
    box = (west, south, east, north)
    return Coverage(
        box,
        (instant, instant),
        {name: frozenset({properties[name]}) for name in LISTED if isinstance(properties.get(name), str)},
        {name: (value, value) for name in MEASURED for value in _find_numbers(properties.get(name))},
        {tile[:3]: box} if isinstance(tile, str) and TILE_FORM.fullmatch(tile) else {},
    )


def read_collection_coverage(collection: dict[str, Any]) -> Coverage | None:
    """What a published collection says it covers; None of one that holds no item yet, or says nothing."""
    try:
        extent, summaries = collection["extent"], collection["summaries"]
        start, end = map(_format_instant, extent["temporal"]["interval"][0])
        return Coverage(
            _read_bbox(extent["spatial"]["bbox"][0]),
            (start, end),
            {name: frozenset(map(_check_text, summaries[name])) for name in LISTED if name in summaries},
            {
                name: (_read_number(summaries[name]["minimum"]), _read_number(summaries[name]["maximum"]))
                for name in MEASURED
                if name in summaries
            },
            {
                link["href"].split("/")[-2]: _read_bbox(link["bbox"])
                for link in collection["links"]
                if link["rel"] == "child" and "bbox" in link
            },
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def build_summaries(coverage: Coverage) -> dict[str, Any]:
    """The coverage as a collection's summaries, lists sorted."""
    listed = {name: sorted(coverage.values[name]) for name in LISTED if name in coverage.values}
    measured = {
        name: {"minimum": coverage.ranges[name][0], "maximum": coverage.ranges[name][1]}
        for name in MEASURED
        if name in coverage.ranges
    }
    return {**listed, **measured}


def _read_bbox(bbox: Any) -> BBox:
    west, south, east, north = map(_read_number, bbox if len(bbox) == 4 else (*bbox[:2], *bbox[3:5]))
    return (west, south, east, north)


def _format_instant(text: Any) -> str:
    """An RFC 3339 instant in the one form whose order as text is its order in time."""
    moment = parse_instant(_check_text(text))
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text should be")
    return value


def _read_number(value: Any) -> float:
    """A float that no order of merging can change: neither an equal integer nor a negative zero."""
    if not is_number(value):
        raise TypeError(f"{type(value).__name__} where a finite number should be")
    return float(value) + 0.0


def _find_numbers(value: Any) -> Iterator[float]:
    if is_number(value):
        yield _read_number(value)


def _merge_boxes(one: BBox | None, other: BBox | None) -> BBox:
    west, south, east, north = zip(*filter(None, (one, other)), strict=True)
    return (min(west), min(south), max(east), max(north))


def _merge_ranges(one: Range | None, other: Range | None) -> Range:
    least = min(span[0] for span in (one, other) if span is not None)
    greatest = max(span[1] for span in (one, other) if span is not None)
    return (least, greatest)
