"""How much of a mask is cloud, shadow, clear or no data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Decimals of a published percentage: 0.01 % of a tile at 20 m is 3,014 pixels.
DECIMALS = 2
#: A hundred percent in steps of the last decimal.
_UNITS = 100 * 10**DECIMALS
_ONE = np.uint8(1)
#: Rows that are counted at a time, so that no second raster of the mask's size is needed.
_ROWS = 128


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """Percentages with ``DECIMALS`` decimals.

    ``cloud_percentage``, ``shadow_percentage`` and ``clear_percentage`` are of the valid pixels and add up
    to exactly 100 as decimals; if no pixel is valid, all three are 0.
    ``nodata_percentage`` is of all pixels.
    """

    cloud_percentage: float
    shadow_percentage: float
    clear_percentage: float
    nodata_percentage: float


def measure_mask(classes: NDArray[np.uint8]) -> MaskStatistics:
    """Return the statistics of a mask, uint8 ``(height, width)`` of ``MaskClass``."""
    clear, cloud, shadow = _count_classes(classes)
    valid = clear + cloud + shadow
    cloud_percentage, shadow_percentage, clear_percentage = share_out([cloud, shadow, clear])
    nodata_percentage, _ = share_out([classes.size - valid, valid])
    return MaskStatistics(cloud_percentage, shadow_percentage, clear_percentage, nodata_percentage)


def _count_classes(classes: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Count the pixels that are clear, cloud and shadow: as bits 01, 10, 11.

    Counting bits takes a fifth of the time that comparing with each class does.
    """
    low = high = both = 0
    for row in range(0, len(classes), _ROWS):
        strip = classes[row : row + _ROWS]
        upper = strip >> _ONE
        low += _count_ones(strip & _ONE)
        high += _count_ones(upper)
        both += _count_ones(strip & upper)
    return low - both, high - both, both


def _count_ones(bits: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(bits.view(np.bool_)))


def share_out(counts: list[int]) -> list[float]:
    """Return percentages by the method of the largest remainder, the earlier count first in a tie."""
    total = sum(counts)
    if not total:
        return [0.0 for _ in counts]
    units = [count * _UNITS // total for count in counts]
    remainders = [count * _UNITS % total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda index: -remainders[index])
    for index in by_remainder[: _UNITS - sum(units)]:
        units[index] += 1
    return [unit / 10**DECIMALS for unit in units]
