"""Which pixels are cloud, which are dark, and where the sun's azimuth puts the shadows of clouds.

The azimuth is applied in ``sun_steps``; Earth Engine applies it in ``earth_engine.graphs.build_server_mask``.
Source: Earth Engine community tutorial "Sentinel-2 Cloud Masking with s2cloudless".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import PROBABILITY_NODATA
from pc_cloudmask.scene.scene import reflectance_offset_dn

#: Class "water" of Sen2Cor's scene classification (Sentinel-2 Products Specification Document).
SCL_WATER = 6
#: Digital numbers of a reflectance of 1: L2A's ``QUANTIFICATION_VALUE``, the tutorial's ``SR_BAND_SCALE``.
REFLECTANCE_SCALE = 10_000
#: Rows that are compared at a time, so that no further raster of the scene's size is needed.
_ROWS = 128


def find_cloud(probability_pct: NDArray[np.uint8], threshold_pct: float) -> NDArray[np.bool_]:
    """Find where the probability is strictly above the threshold: bool, of the same shape.

    A pixel without data (255) is never cloud.
    """
    # For integers p, p > t is p > floor(t): comparing integers needs no float64 copy.
    cloud = probability_pct > math.floor(threshold_pct)
    cloud &= probability_pct != PROBABILITY_NODATA
    return cloud


def find_dark(
    nir_dn: NDArray[np.uint16], scl: NDArray[np.uint8], dark_nir_reflectance: float, offset_dn: int = 0
) -> NDArray[np.bool_]:
    """Find where B8's reflectance is strictly below the threshold, water apart: bool, of the same shape.

    Reflectance is ``(DN + offset_dn) / 10000``; ``offset_dn`` is -1000 from processing baseline 04.00
    on, 0 before it as in Earth Engine's harmonised collection. Water is as dark as a shadow, so SCL 6
    is left out. A pixel without data (DN 0) is dark: the probability decides where there is data.
    """
    # Integers again; rounding keeps 0.29 * 10000 from being a hair above or below 2900.
    limit_dn = math.ceil(round(dark_nir_reflectance * REFLECTANCE_SCALE - offset_dn, 6))
    dark = nir_dn < limit_dn
    for row in range(0, len(dark), _ROWS):
        dark[row : row + _ROWS] &= scl[row : row + _ROWS] != SCL_WATER
    return dark


#: Nothing on Earth is brighter. A saturated pixel, 65535, would be 6.5 otherwise, and one of them would sway
#: how a network labels its entire tile.
MAX_REFLECTANCE = 2.0
_DN_COUNT = 1 << 16


def build_reflectance_table(processing_baseline: str) -> NDArray[np.float32]:
    """Return the reflectance of every digital number, float32 ``(65536,)`` in 0..2: ``table[dn]`` converts pixels.

    0, which is no data in every baseline, gives 0; so does every number that the offset makes negative.
    """
    dn = np.arange(_DN_COUNT, dtype=np.int32) + reflectance_offset_dn(processing_baseline)
    reflectance = dn.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
    return np.clip(reflectance, 0, MAX_REFLECTANCE, out=reflectance)


#: What these decimals show as a half is a half: sines and cosines are good to about 15.
_TIE_DECIMALS = 9


def find_shadow_candidates(
    coarse_cloud: NDArray[np.bool_], solar_azimuth_deg: float, reach_px: float
) -> NDArray[np.bool_]:
    """Find the pixels that a cloud stands before, as seen towards the sun: bool, of the same shape.

    A pixel is a candidate where a cloud lies 0, 1, 2 … ``floor(reach_px)`` steps from it towards the
    sun, each step rounded to the nearest pixel. Outside the raster there is no cloud.

    Raises:
        ValueError: the azimuth is not finite.
    """
    candidates = np.zeros_like(coarse_cloud)
    height, width = coarse_cloud.shape
    for row_step, col_step in sun_steps(solar_azimuth_deg, reach_px):
        to_rows, from_rows = _overlap(row_step, height)
        to_cols, from_cols = _overlap(col_step, width)
        candidates[to_rows, to_cols] |= coarse_cloud[from_rows, from_cols]
    return candidates


def sun_steps(solar_azimuth_deg: float, reach_px: float) -> list[tuple[int, int]]:
    """Return the steps (rows, columns) from a pixel of a north-up grid towards the sun, distance 0 first.

    ``solar_azimuth_deg`` is clockwise from north, any real number. Rows count southwards, so the step of length
    ``k`` is ``(-k sin a, k cos a)`` with ``a = 90 - azimuth``: the tutorial's angle, counter-clockwise from east.

    Raises:
        ValueError: the azimuth is not finite.
    """
    if not math.isfinite(solar_azimuth_deg):
        raise ValueError(f"a solar azimuth of {solar_azimuth_deg} degrees is no direction")
    angle = math.radians(90.0 - solar_azimuth_deg % 360.0)
    return [
        (_round_half_away(-k * math.sin(angle)), _round_half_away(k * math.cos(angle)))
        for k in range(math.floor(reach_px) + 1)
    ]


def _round_half_away(value: float) -> int:
    """Return the nearest integer, a half going away from zero: alike in all four quadrants."""
    return int(math.copysign(math.floor(round(abs(value), _TIE_DECIMALS) + 0.5), value))


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Return, along an axis of ``size``, the pixels ``i`` with ``i + step`` inside, and those ``i + step``."""
    inside = max(size - abs(step), 0)
    start = min(max(-step, 0), size)
    return slice(start, start + inside), slice(start + step, start + step + inside)
