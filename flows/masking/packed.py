"""Binary rasters held as eight bands of rows, one bit each.

A stretch of ``8 * n`` rows is cut into eight bands of ``n`` rows that lie over each other in one
uint8 array: bit ``b`` of ``packed[i, j]`` is the pixel ``(b * n + i, j)``. Logic then works on eight
pixels a byte, and a pixel's neighbours are the same bit of the neighbouring bytes: a shifted raster
is a slice, with no carry from word to word. Each band brings ``halo`` rows of its neighbours above
and below, so that no disk is cut off at a seam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Packed = NDArray[np.uint8]
"""Eight bands of a binary raster, ``(rows of one band, width)``."""

BANDS = 8
"""Bits of a byte."""


@dataclass(frozen=True, slots=True)
class BandStack:
    """Eight bands of ``band_height`` rows, each with ``halo`` rows more above and below.

    The bands follow each other from ``first_row`` of a raster of ``raster_height`` rows. They may
    reach beyond the raster, where all bits are zero.
    """

    raster_height: int
    first_row: int
    band_height: int
    halo: int = 0

    @property
    def rows(self) -> slice:
        """The raster's rows that the stack holds, halos included."""
        stop = self.first_row + BANDS * self.band_height + self.halo
        return slice(max(self.first_row - self.halo, 0), min(stop, self.raster_height))

    def pack(self, read_rows: Callable[[slice], NDArray[np.bool_]], width: int) -> Packed:
        """Packed pixels, uint8 ``(band_height + 2 * halo, width)``.

        ``read_rows`` gives a slice of the raster's rows as bool ``(rows, width)``. It is asked band by
        band, so a threshold may be applied there without a raster of its own.
        """
        packed = np.zeros((self.band_height + 2 * self.halo, width), np.uint8)
        for _, rows, band_rows in reversed(list(self._bands())):
            packed += packed  # one bit up: a doubling is quicker than a shift
            packed[band_rows] |= read_rows(rows).view(np.uint8)
        return packed

    def unpack_pairs(self, low: Packed, high: Packed, out: NDArray[np.uint8]) -> None:
        """Write ``low + 2 * high`` of each pixel to ``out``, uint8 ``(raster_height, width)``.

        ``low`` and ``high`` are packed without a halo, as this stack must be.
        """
        # Both bits of a pixel side by side: one shift and one mask give its value.
        even = low & 0x55 | (high & 0x55) << 1
        odd = low >> 1 & 0x55 | high & 0xAA
        for band, rows, band_rows in self._bands():
            pairs = (odd if band % 2 else even)[band_rows]
            np.bitwise_and(pairs >> band // 2 * 2, 3, out=out[rows])

    def _bands(self) -> Iterator[tuple[int, slice, slice]]:
        """Each band, the raster's rows that it holds (maybe none), and where in the band they are."""
        for band in range(BANDS):
            top = self.first_row + band * self.band_height - self.halo
            start = max(top, 0)
            stop = max(min(top + self.band_height + 2 * self.halo, self.raster_height), start)
            yield band, slice(start, stop), slice(start - top, stop - top)
