"""Stored rasters with their overview levels.

As documented ("Scale" in Earth Engine's guide): each level aggregates 2 x 2 pixels of the level
below; continuous bands by the mean, discrete ones by the upper-left pixel; a request reads the level
whose pixels are as large as, or the next smaller than, those asked for, by nearest neighbour.

Rules of our own, where nothing is documented: the mean is that of the unmasked pixels among the four;
that of an integer band is rounded half up at each level, for a level has its band's type, unless
``Pyramiding.EXACT_MEAN`` is asked for, to see that nothing hangs on it; the mask of a level is the mean of
the four masks, so a pixel on the edge of the data is partly masked; levels are built on demand without
end, where Earth Engine stops at 256 pixels, so that small rasters behave as full tiles do.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.doubles.earth_engine.grids import Projection, Window


class Pixels(NamedTuple):
    """Values (float64) and mask (float32, 0 masked .. 1 valid), both ``(height, width)``."""

    values: NDArray[np.float64]
    mask: NDArray[np.float32]

    @property
    def valid(self) -> NDArray[np.bool_]:
        return self.mask > 0


class Pyramiding(Enum):
    """How a level follows from the one below."""

    MEAN = "mean"
    EXACT_MEAN = "exact mean"
    SAMPLE = "sample"


@dataclass(eq=False)
class StoredRaster:
    """One band of an asset: ``(height, width)`` values, a mask or None, its projection."""

    values: NDArray[Any]
    projection: Projection
    valid: NDArray[np.bool_] | None = None
    pyramiding: Pyramiding = Pyramiding.MEAN
    _levels: list[tuple[NDArray[Any], NDArray[np.float32] | None]] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        mask = None if self.valid is None else self.valid.astype(np.float32)
        self._levels.append((self.values, mask))

    @property
    def dimensions(self) -> tuple[int, int]:
        """``(width, height)``, Earth Engine's order."""
        height, width = self.values.shape
        return width, height

    def read(self, window: Window) -> Pixels:
        """The window's pixels; masked outside the raster."""
        level = self.level_for(window.pixel_size_in(self.projection))
        values, mask = self._level(level)
        rows, cols = window.pixels_of(self.projection.scaled(2**level, 2**level))
        height, width = values.shape
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        rows, cols = rows.clip(0, height - 1), cols.clip(0, width - 1)
        read_mask = inside.astype(np.float32) if mask is None else np.where(inside, mask[rows, cols], 0)
        return Pixels(np.where(inside, values[rows, cols], 0).astype(np.float64), read_mask)

    def level_for(self, pixel_size: float) -> int:
        """The last level whose pixels are not larger than ``pixel_size`` (units of the CRS)."""
        native = abs(self.projection.transform[0])
        # A billionth of slack: a size that was computed from degrees must still find its own level.
        return max(0, int(np.floor(np.log2(pixel_size / native * (1 + 1e-9)))))

    def _level(self, level: int) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        with self._lock:
            while len(self._levels) <= level:
                values, mask = self._levels[-1]
                self._levels.append(_build_level(values, mask, self.pyramiding))
            return self._levels[level]


def _build_level(
    values: NDArray[Any], mask: NDArray[np.float32] | None, pyramiding: Pyramiding
) -> tuple[Any, Any]:
    if pyramiding is Pyramiding.SAMPLE:
        return values[::2, ::2], None if mask is None else mask[::2, ::2]
    mean, level_mask = _mean_level(values, mask)
    if pyramiding is Pyramiding.EXACT_MEAN:
        return mean, level_mask
    if np.issubdtype(values.dtype, np.integer):
        mean = np.floor(mean + 0.5)
    return mean.astype(values.dtype), level_mask


def _mean_level(
    values: NDArray[Any], mask: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """Means over 2 x 2 pixels; a block that the raster's edge cuts has what is inside."""
    height, width = values.shape
    padding = ((0, height % 2), (0, width % 2))
    if mask is None and any(after for _, after in padding):
        mask = np.ones(values.shape, np.float32)
    blocks = _blocks(np.pad(values, padding).astype(np.float64))
    if mask is None:
        mean, level_mask = blocks.mean(axis=0), None
    else:
        masks = _blocks(np.pad(mask, padding))
        valid = masks > 0
        count = valid.sum(axis=0)
        mean = np.where(valid, blocks, 0).sum(axis=0) / np.maximum(count, 1)
        level_mask = masks.mean(axis=0, dtype=np.float32)
    return mean, level_mask


def _blocks(array: NDArray[Any]) -> NDArray[Any]:
    """``(4, height / 2, width / 2)``: the four pixels of each block."""
    return np.stack([array[row::2, col::2] for row in (0, 1) for col in (0, 1)])
