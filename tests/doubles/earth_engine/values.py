"""Small values that expressions compute with beside images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Date:
    """An instant in milliseconds since 1970, UTC."""

    millis: int


@dataclass(frozen=True, slots=True)
class DateRange:
    """From ``start`` up to, and without, ``end``."""

    start: Date
    end: Date

    def contains(self, date: Date) -> bool:
        return self.start.millis <= date.millis < self.end.millis


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on an element, or on a pair of elements in a join."""

    holds: Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class Reducer:
    """How rows of inputs become a dictionary of outputs."""

    inputs: int
    reduce: Callable[[list[list[Any]]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A neighbourhood: ``circle`` (dx² + dy² <= r²), ``square``, ``diamond`` or ``plus``."""

    shape: str
    radius: float
    units: str = "pixels"

    def half_widths(self, pixel_size_m: float) -> dict[int, int]:
        """By row from the centre's, how many pixels the kernel has left and right of the centre's column."""
        # The slack is for metres: 100 m must not become 4.999 pixels of 20 m.
        radius = (self.radius / pixel_size_m if self.units == "meters" else self.radius) + 1e-9
        half_width = _HALF_WIDTHS[self.shape]
        reach = range(-math.floor(radius), math.floor(radius) + 1)
        return {row: math.floor(half_width(row, radius)) for row in reach}


_HALF_WIDTHS: dict[str, Callable[[int, float], float]] = {
    "circle": lambda row, radius: math.sqrt(radius * radius - row * row),
    "square": lambda _row, radius: radius,
    "diamond": lambda row, radius: radius - abs(row),
    "plus": lambda row, radius: 0 if row else radius,
}


@dataclass(frozen=True, slots=True)
class Join:
    """How a primary and a secondary collection become one."""

    apply: Callable[[Any, Any, Filter], Any]
