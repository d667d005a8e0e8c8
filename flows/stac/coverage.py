"""What a set of published items covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from stac_ext.cloudmask import (
    CLEAR_PERCENTAGE_PROP,
    CLOUD_PERCENTAGE_PROP,
    METHOD_PROP,
    NODATA_PERCENTAGE_PROP,
    SHADOW_PERCENTAGE_PROP,
)

BBox = tuple[float, float, float, float]
Range = tuple[float, float]

LISTED = ("platform", METHOD_PROP, "s2:processing_baseline", "proj:code")
"""Properties of which the collection lists every value."""
MEASURED = (
    CLOUD_PERCENTAGE_PROP,
    SHADOW_PERCENTAGE_PROP,
    CLEAR_PERCENTAGE_PROP,
    NODATA_PERCENTAGE_PROP,
    "eo:cloud_cover",
)
"""Properties of which the collection tells the least and the greatest value."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where, when, and with which properties items are.

    Two coverages merge into the one of all their items: in any order, any number of times. So the
    collection is brought up to date from its own document alone. ``bbox`` is ``(west, south, east,
    north)``; of items beyond the antimeridian it is the whole circle, since a union that crosses it
    would depend on the order of merging. ``interval`` holds RFC 3339 instants in UTC of one form, which
    sort as text.
    """

    bbox: BBox
    interval: tuple[str, str]
    values: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    ranges: Mapping[str, Range] = field(default_factory=dict, hash=False)

    def merge(self, other: Coverage) -> Coverage:
        """The coverage of this one's items and ``other``'s."""
        west, south, east, north = zip(self.bbox, other.bbox, strict=True)
        starts, ends = zip(self.interval, other.interval, strict=True)
        return Coverage(
            (min(west), min(south), max(east), max(north)),
            (min(starts), max(ends)),
            {
                name: self.values.get(name, frozenset()) | other.values.get(name, frozenset())
                for name in self.values.keys() | other.values.keys()
            },
            {
                name: _merge_ranges(self.ranges.get(name), other.ranges.get(name))
                for name in self.ranges.keys() | other.ranges.keys()
            },
        )


def read_coverage(item: dict[str, Any]) -> Coverage:
    """What one published item covers."""
    bbox, properties = item["bbox"], item["properties"]
    west, south, east, north = bbox if len(bbox) == 4 else (*bbox[:2], *bbox[3:5])
    if west > east:
        west, east = -180.0, 180.0
    instant = _format_instant(properties["datetime"])
    return Coverage(
        (west, south, east, north),
        (instant, instant),
        {name: frozenset({value}) for name in LISTED if (value := properties.get(name)) is not None},
        {name: (value, value) for name in MEASURED if (value := properties.get(name)) is not None},
    )


def read_collection_coverage(collection: dict[str, Any]) -> Coverage | None:
    """What a published collection says it covers; None of one that holds no item yet."""
    summaries = collection.get("summaries", {})
    start, end = collection["extent"]["temporal"]["interval"][0]
    if start is None or end is None:
        return None
    west, south, east, north = collection["extent"]["spatial"]["bbox"][0]
    return Coverage(
        (west, south, east, north),
        (start, end),
        {name: frozenset(summaries[name]) for name in LISTED if name in summaries},
        {
            name: (summaries[name]["minimum"], summaries[name]["maximum"])
            for name in MEASURED
            if name in summaries
        },
    )


def build_summaries(coverage: Coverage) -> dict[str, Any]:
    """The coverage as a collection's summaries, lists sorted."""
    listed = {name: sorted(coverage.values[name]) for name in LISTED if name in coverage.values}
    measured = {
        name: {"minimum": coverage.ranges[name][0], "maximum": coverage.ranges[name][1]}
        for name in MEASURED
        if name in coverage.ranges
    }
    return {**listed, **measured}


def _format_instant(text: str) -> str:
    """An RFC 3339 instant in the one form whose order as text is its order in time."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _merge_ranges(one: Range | None, other: Range | None) -> Range:
    least = min(span[0] for span in (one, other) if span is not None)
    greatest = max(span[1] for span in (one, other) if span is not None)
    return (least, greatest)
