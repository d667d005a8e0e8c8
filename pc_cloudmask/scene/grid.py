"""The pixel grid of a scene."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeGuard

#: ``(height, width)`` in pixels, always in this order.
Shape = tuple[int, int]
#: ``(a, b, c, d, e, f)`` of STAC's ``proj:transform``: x = a*col + b*row + c, y = d*col + e*row + f.
Affine = tuple[float, float, float, float, float, float]
#: Pixel sizes of Sentinel-2's assets, in metres.
_PIXEL_SIZES_M = (10, 20, 60)
_UTM = re.compile(r"EPSG:32[67](?:0[1-9]|[1-5]\d|60)", re.ASCII)
#: More metres or pixels than exist on Earth.
_OFF_EARTH = 1e9


@dataclass(frozen=True, slots=True)
class Window:
    """A block of pixels: upper-left corner ``(row, col)``, size ``height`` x ``width``."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> Shape:
        """``(height, width)``."""
        return (self.height, self.width)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window's index in an array of the grid."""
        return (slice(self.row, self.row + self.height), slice(self.col, self.col + self.width))

    def split(self) -> list[Window]:
        """Return up to four windows that cover this one exactly; ``[self]`` if it is a single pixel."""
        top, left = (self.height + 1) // 2, (self.width + 1) // 2
        rows = ((self.row, top), (self.row + top, self.height - top))
        cols = ((self.col, left), (self.col + left, self.width - left))
        return [
            Window(row, col, height, width)
            for (row, height), (col, width) in product(rows, cols)
            if height and width
        ]


@dataclass(frozen=True, slots=True)
class Grid:
    """A georeferenced raster grid: CRS (``EPSG:n``), affine transform, shape."""

    crs: str
    transform: Affine
    shape: Shape

    @property
    def pixel_size_m(self) -> float:
        """Edge of a (square) pixel in metres; the CRS must be UTM."""
        return abs(self.transform[0])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(west, south, east, north)`` in the CRS's units, for a north-up grid."""
        a, _, c, _, e, f = self.transform
        height, width = self.shape
        return (c, f + e * height, c + a * width, f)

    def window_grid(self, window: Window) -> Grid:
        """Return the grid of ``window``."""
        a, b, c, d, e, f = self.transform
        origin_x = a * window.col + b * window.row + c
        origin_y = d * window.col + e * window.row + f
        return Grid(self.crs, (a, b, origin_x, d, e, origin_y), window.shape)

    def at_pixel_size(self, pixel_size_m: float) -> Grid:
        """Return a grid of another pixel size that covers at least this one, from the same upper-left corner.

        Earth Engine's ``reproject(scale=...)`` does the same.
        """
        factor = pixel_size_m / self.pixel_size_m
        a, b, c, d, e, f = self.transform
        height, width = (-int(-(size / factor) // 1) for size in self.shape)
        return Grid(self.crs, (a * factor, b * factor, c, d * factor, e * factor, f), (height, width))

    def blocks(self, height: int, width: int | None = None) -> Iterator[Window]:
        """Yield windows of at most ``height`` x ``width`` that cover the grid exactly, row by row."""
        rows, cols = self.shape
        width = width or height
        for row in range(0, rows, height):
            for col in range(0, cols, width):
                yield Window(row, col, min(height, rows - row), min(width, cols - col))


def read_grid(fields: Mapping[str, Any]) -> Grid:
    """Return the UTM grid in the projection extension's fields of one of our assets; raise ValueError without one."""
    crs, transform, shape = (fields.get(f"proj:{name}") for name in ("code", "transform", "shape"))
    if not (isinstance(crs, str) and _UTM.fullmatch(crs)):
        raise ValueError("proj:code is no UTM zone")
    if not (_are_numbers(transform, (6, 9)) and _are_numbers(shape, (2,))):
        raise ValueError("proj:transform or proj:shape is no list of numbers")
    a, b, c, d, e, f = transform[:6]
    height, width = map(int, shape)
    if b or d or not a > 0 > e or min(height, width) < 1:
        raise ValueError("proj:transform and proj:shape are no grid with north up")
    return Grid(crs, (a, b, c, d, e, f), (height, width))


def list_stated_grids(grid: Grid, fields: Mapping[str, Any]) -> tuple[Grid, ...]:
    """Return the grids that an asset may have according to its item, all of them in the CRS of ``grid``.

    This is the grid of the asset's own ``proj:transform`` and ``proj:shape``; without these, the item's ``grid`` at
    each of Sentinel-2's pixel sizes.
    """
    transform, shape = fields.get("proj:transform"), fields.get("proj:shape")
    if _are_numbers(transform, (6, 9)) and _are_numbers(shape, (2,)):
        a, b, c, d, e, f = transform[:6]
        return (Grid(grid.crs, (a, b, c, d, e, f), (int(shape[0]), int(shape[1]))),)
    return tuple(grid.at_pixel_size(size) for size in _PIXEL_SIZES_M)


def _are_numbers(values: Any, lengths: tuple[int, ...]) -> TypeGuard[Sequence[float]]:
    """Return True if ``values`` is a list of finite numbers of one of ``lengths``."""
    return (
        isinstance(values, list)
        and len(values) in lengths
        and all(isinstance(each, int | float) and abs(each) < _OFF_EARTH for each in values)
    )
