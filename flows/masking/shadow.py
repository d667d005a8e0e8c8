"""Where the shadows of clouds can fall.

Source: Earth Engine community tutorial "Sentinel-2 Cloud Masking with s2cloudless". It looks for the
nearest cloud in the direction of the sun by ``directionalDistanceTransform(90 - SAA, 10)`` on a grid of
100 m, north up. In array terms: from a pixel, steps of one pixel's length go
``(cos a, -sin a)`` in (column, row), with ``a = 90 - SAA`` degrees.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SHADOW_SCALE_M = 100.0
"""Pixel size at which shadows are projected: the tutorial's ``reproject(scale=100)``."""

_TIE_DECIMALS = 9
"""What these decimals show as a half is a half: sines and cosines are good to about 15."""


def find_shadow_candidates(
    coarse_cloud: NDArray[np.bool_], solar_azimuth_deg: float, reach_px: float
) -> NDArray[np.bool_]:
    """Pixels that a cloud stands before, as seen towards the sun: bool, of the same shape.

    A pixel is a candidate where a cloud lies 0, 1, 2 … ``floor(reach_px)`` steps from it towards the
    sun, each step rounded to the nearest pixel. Outside the raster there is no cloud.
    ``solar_azimuth_deg`` is clockwise from north, any real number.

    Raises:
        ValueError: an azimuth that is not finite.
    """
    candidates = np.zeros_like(coarse_cloud)
    height, width = coarse_cloud.shape
    for row_step, col_step in sun_steps(solar_azimuth_deg, reach_px):
        to_rows, from_rows = _overlap(row_step, height)
        to_cols, from_cols = _overlap(col_step, width)
        candidates[to_rows, to_cols] |= coarse_cloud[from_rows, from_cols]
    return candidates


def sun_steps(solar_azimuth_deg: float, reach_px: float) -> list[tuple[int, int]]:
    """Steps (rows, columns) from a pixel towards the sun, distance 0 first.

    Raises:
        ValueError: an azimuth that is not finite.
    """
    if not math.isfinite(solar_azimuth_deg):
        raise ValueError(f"a solar azimuth of {solar_azimuth_deg} degrees is no direction")
    angle = math.radians(90.0 - solar_azimuth_deg % 360.0)
    return [
        (_round_half_away(-k * math.sin(angle)), _round_half_away(k * math.cos(angle)))
        for k in range(math.floor(reach_px) + 1)
    ]


def _round_half_away(value: float) -> int:
    """The nearest whole number, a half going away from zero: alike in all four quadrants."""
    return int(math.copysign(math.floor(round(abs(value), _TIE_DECIMALS) + 0.5), value))


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Along an axis of ``size``: the pixels ``i`` with ``i + step`` inside, and those ``i + step``."""
    inside = max(size - abs(step), 0)
    start = min(max(-step, 0), size)
    return slice(start, start + inside), slice(start + step, start + step + inside)
