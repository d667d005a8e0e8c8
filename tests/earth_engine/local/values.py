"""Small values that expressions compute with beside images."""

from __future__ import annotations

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

    def offsets(self, pixel_size_m: float) -> list[tuple[int, int]]:
        """``(row, col)`` of the pixels of the neighbourhood, on pixels of this size."""
        radius = self.radius / pixel_size_m if self.units == "meters" else self.radius
        inside = _KERNELS[self.shape]
        reach = range(-int(radius), int(radius) + 1)
        return [(row, col) for row in reach for col in reach if inside(row, col, radius)]


_KERNELS: dict[str, Callable[[int, int, float], bool]] = {
    "circle": lambda row, col, radius: row * row + col * col <= radius * radius,
    "square": lambda _row, _col, _radius: True,
    "diamond": lambda row, col, radius: abs(row) + abs(col) <= radius,
    "plus": lambda row, col, _radius: row == 0 or col == 0,
}


@dataclass(frozen=True, slots=True)
class Join:
    """How a primary and a secondary collection become one."""

    apply: Callable[[Any, Any, Filter], Any]
