"""Earth Engine's image pyramid, as far as the mask sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import COARSE_PIXEL_M, PROBABILITY_NODATA

#: The level at or below 100 m in a pyramid of 10 m pixels: 10, 20, 40, 80.
_LEVEL_SCALE_M = 80
_PIXEL_SIZE_M = 20
#: Rows of a level that are made at a time, so that their parts stay in the processor's cache.
_STRIP_ROWS = 64


def build_coarse_probability(probability_pct: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what Earth Engine takes for the probability at 100 m, from the probability at 20 m.

    ``reproject(scale=100)`` reads the nearest pixel of the level at or below 100 m, which is 80 m: a
    100 m pixel gets the mean of the 80 m pixel that its centre lies in, not a mean of its own ground.

    Args:
        probability_pct: uint8 (h, w), 0..100, 255 no data.

    Returns:
        uint8 (ceil(h / 5), ceil(w / 5)) from the same upper-left corner, 255 no data.
    """
    level = mean_pyramid(mean_pyramid(probability_pct, PROBABILITY_NODATA), PROBABILITY_NODATA)
    height, width = probability_pct.shape
    # A 100 m pixel that only begins inside the image may have its centre outside: no data there.
    padded = np.pad(level, ((0, 1), (0, 1)), constant_values=PROBABILITY_NODATA)
    return padded[np.ix_(_nearest_in_level(height), _nearest_in_level(width))]


def mean_pyramid(values: NDArray[np.uint8], nodata: int) -> NDArray[np.uint8]:
    """Return the next coarser level: means of the valid pixels of each 2 x 2, ``nodata`` where there are none.

    Earth Engine computes each level of a MEAN pyramid from the finer one, masked pixels left out, in
    the type of the band. Its rounding is not documented; here it is to the nearest, halves up, as in
    GDAL's overviews.

    Args:
        values: uint8 (h, w).
        nodata: the value of pixels that have none.

    Returns:
        uint8 (ceil(h / 2), ceil(w / 2)).
    """
    height, width = values.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2)), constant_values=nodata)
    level = np.empty((values.shape[0] // 2, values.shape[1] // 2), np.uint8)
    for top in range(0, level.shape[0], _STRIP_ROWS):
        strip = values[2 * top : 2 * (top + _STRIP_ROWS)]
        valid = strip != nodata
        level[top : top + _STRIP_ROWS] = (
            _mean_all(strip) if valid.all() else _mean_valid(strip, valid, nodata)
        )
    return level


def _mean_all(strip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mean: NDArray[np.uint8] = ((_sum_of_four(strip) + 2) >> 2).astype(np.uint8)
    return mean


def _mean_valid(strip: NDArray[np.uint8], valid: NDArray[np.bool_], nodata: int) -> NDArray[np.uint8]:
    total, count = _sum_of_four(strip * valid), _sum_of_four(valid.view(np.uint8))
    mean = (2 * total + count) // (2 * np.maximum(count, 1))
    return np.where(count > 0, mean, nodata).astype(np.uint8)


def _sum_of_four(strip: NDArray[np.uint8]) -> NDArray[np.uint16]:
    rows = np.add(strip[::2], strip[1::2], dtype=np.uint16)
    return rows[:, ::2] + rows[:, 1::2]


def _nearest_in_level(length: int) -> NDArray[np.intp]:
    """Return the index of the 80 m pixel that holds the centre of each 100 m pixel, for ``length`` of 20 m."""
    centre_m = np.arange(0, length * _PIXEL_SIZE_M, COARSE_PIXEL_M) + COARSE_PIXEL_M / 2
    return np.asarray(centre_m // _LEVEL_SCALE_M, np.intp)
