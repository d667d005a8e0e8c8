"""Projections and windows on their pixel lattices.

A projection is a CRS with an affine transform: it fixes an endless lattice of pixels. A window is a
block of that lattice in whole pixels, so a window and the same block inside a larger window hold the
same pixels, whatever margin an operation adds on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

METRES_PER_DEGREE = 111_319.49079327358
"""Length of a degree on the equator, as Earth Engine's nominal scale of EPSG:4326 has it."""

AffineTransform = tuple[float, float, float, float, float, float]
"""Earth Engine's order: ``(xScale, xShearing, xTranslation, yShearing, yScale, yTranslation)``."""


@lru_cache(maxsize=64)
def _is_geographic(crs: str) -> bool:
    return CRS.from_user_input(crs).is_geographic


@lru_cache(maxsize=64)
def transformer(source: str, target: str) -> Transformer:
    """Coordinates of one CRS to another, x before y."""
    return Transformer.from_crs(source, target, always_xy=True)


@dataclass(frozen=True, slots=True)
class Projection:
    """A CRS and the affine transform of its pixels."""

    crs: str
    transform: AffineTransform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    @property
    def metres_per_unit(self) -> float:
        return METRES_PER_DEGREE if _is_geographic(self.crs) else 1.0

    @property
    def nominal_scale(self) -> float:
        """Edge of a pixel in metres."""
        return abs(self.transform[0]) * self.metres_per_unit

    def at_scale(self, metres: float) -> Projection:
        """The same origin and orientation with pixels of ``metres``."""
        factor = metres / self.nominal_scale
        a, b, c, d, e, f = self.transform
        return Projection(self.crs, (a * factor, b * factor, c, d * factor, e * factor, f))

    def scaled(self, x: float, y: float) -> Projection:
        a, b, c, d, e, f = self.transform
        return Projection(self.crs, (a * x, b * y, c, d * x, e * y, f))

    def translated(self, col: float, row: float) -> Projection:
        a, b, c, d, e, f = self.transform
        return Projection(self.crs, (a, b, a * col + b * row + c, d, e, d * col + e * row + f))

    @property
    def is_rectilinear(self) -> bool:
        return self.transform[1] == 0 and self.transform[3] == 0

    def to_pixels(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Fractional ``(cols, rows)`` of points in the CRS."""
        a, b, c, d, e, f = self.transform
        if self.is_rectilinear:
            return (x - c) / a, (y - f) / e
        determinant = a * e - b * d
        return (e * (x - c) - b * (y - f)) / determinant, (a * (y - f) - d * (x - c)) / determinant


@dataclass(frozen=True, slots=True)
class Window:
    """``height`` x ``width`` pixels of a projection's lattice from ``(row, col)`` on."""

    projection: Projection
    col: int
    row: int
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        return (self.height, self.width)

    def expanded(self, margin: int) -> Window:
        """This window with ``margin`` more pixels on each side."""
        return Window(
            self.projection,
            self.col - margin,
            self.row - margin,
            self.width + 2 * margin,
            self.height + 2 * margin,
        )

    @property
    def own_projection(self) -> Projection:
        """The projection whose origin is this window's upper-left corner."""
        return self.projection.translated(self.col, self.row)

    def positions_in(self, target: Projection) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(rows, cols)`` of this window's pixel centres in ``target``; they broadcast to ``shape``."""
        a, b, c, d, e, f = self.projection.transform
        cols = np.arange(self.col, self.col + self.width)[None, :] + 0.5
        rows = np.arange(self.row, self.row + self.height)[:, None] + 0.5
        x, y = a * cols + b * rows + c, d * cols + e * rows + f
        if target.crs != self.projection.crs:
            x, y = transformer(self.projection.crs, target.crs).transform(*np.broadcast_arrays(x, y))
        target_cols, target_rows = target.to_pixels(x, y)
        return target_rows, target_cols

    def pixels_of(self, target: Projection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``(rows, cols)`` in ``target``'s lattice of the pixels that hold this window's pixel centres.

        The two arrays broadcast to ``shape``. A centre on an edge belongs to the pixel of the larger index.
        """
        rows, cols = self.positions_in(target)
        return np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)

    def pixel_size_in(self, target: Projection) -> float:
        """Edge of this window's pixels in units of ``target``'s CRS, at its centre."""
        a, b, c, d, e, f = self.projection.transform
        if target.crs == self.projection.crs:
            return float(min(np.hypot(a, d), np.hypot(b, e)))
        col, row = self.col + self.width / 2, self.row + self.height / 2
        x, y = a * col + b * row + c, d * col + e * row + f
        xs, ys = transformer(self.projection.crs, target.crs).transform([x, x + a], [y, y + d])
        return float(np.hypot(xs[1] - xs[0], ys[1] - ys[0]))
