"""Dilation by Earth Engine's disk."""

from __future__ import annotations

import math

import numpy as np

from flows.masking.packed import Packed


def disk_reach(radius_px: float) -> int:
    """Rows by which the disk reaches beyond its centre."""
    return math.isqrt(math.floor(radius_px * radius_px))


def disk_half_widths(radius_px: float) -> list[int]:
    """Half width of the disk's row at a distance of 0, 1, 2 … rows from its centre.

    The disk is Earth Engine's circle kernel, the pixels with ``dx**2 + dy**2 <= radius**2``: 13 pixels
    at radius 2, 81 at radius 5, the centre alone below 1.
    """
    limit = math.floor(radius_px * radius_px)
    return [math.isqrt(limit - dy * dy) for dy in range(disk_reach(radius_px) + 1)]


def dilate(packed: Packed, radius_px: float, margin: int = 0) -> Packed:
    """Where the disk around a pixel holds a set one: packed, ``disk_reach`` rows less at top and bottom.

    What lies left and right of the raster is not set; the result has ``margin`` columns more on either
    side. The disk is the union of its rows, and a horizontal run of pixels grows from row to row by an
    OR with a shifted copy of itself.
    """
    half_widths = disk_half_widths(radius_px)
    reach = len(half_widths) - 1
    height, width = packed.shape[0] - 2 * reach, packed.shape[1] + 2 * margin
    dilated = np.zeros((height, width), np.uint8)
    # run[:, j] is the OR of `length` pixels from j on.
    run, length = np.pad(packed, ((0, 0), (reach + margin, reach + margin))), 1
    for dy in range(reach, -1, -1):
        half_width = half_widths[dy]
        while length < 2 * half_width + 1:
            step = min(length, 2 * half_width + 1 - length)
            run = run[:, :-step] | run[:, step:]
            length += step
        left = reach - half_width
        for top in {reach - dy, reach + dy}:
            dilated |= run[top : top + height, left : left + width]
    return dilated
