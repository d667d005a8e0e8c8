"""Which pixels are cloud, which are dark enough for a shadow.

Source: Earth Engine community tutorial "Sentinel-2 Cloud Masking with s2cloudless".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flows.masking.inputs import PROBABILITY_NODATA

SCL_WATER = 6
"""Class "water" of Sen2Cor's scene classification (Sentinel-2 Products Specification Document)."""

REFLECTANCE_SCALE = 10_000
"""Digital numbers of a reflectance of 1: L2A's ``QUANTIFICATION_VALUE``, the tutorial's ``SR_BAND_SCALE``."""

_ROWS = 128
"""Rows that are compared at a time, to need no further raster of the scene's size."""


def find_cloud(probability_pct: NDArray[np.uint8], threshold_pct: float) -> NDArray[np.bool_]:
    """Where the probability is strictly above the threshold: bool, of the same shape.

    A pixel without data (255) is never cloud.
    """
    # For whole numbers p, p > t is p > floor(t): comparing integers needs no float64 copy.
    cloud = probability_pct > math.floor(threshold_pct)
    cloud &= probability_pct != PROBABILITY_NODATA
    return cloud


def find_dark(
    nir_dn: NDArray[np.uint16], scl: NDArray[np.uint8], dark_nir_reflectance: float, offset_dn: int = 0
) -> NDArray[np.bool_]:
    """Where B8's reflectance is strictly below the threshold on anything but water: bool, of the same shape.

    Reflectance is ``(DN + offset_dn) / 10000``; ``offset_dn`` is -1000 from processing baseline 04.00
    on, 0 before it as in Earth Engine's harmonised collection. Water is as dark as a shadow, so SCL 6
    is left out. A pixel without data (DN 0) is dark: the probability decides where there is data.
    """
    # Whole numbers again; rounding keeps 0.29 * 10000 from being a hair above or below 2900.
    limit_dn = math.ceil(round(dark_nir_reflectance * REFLECTANCE_SCALE - offset_dn, 6))
    dark = nir_dn < limit_dn
    for row in range(0, len(dark), _ROWS):
        dark[row : row + _ROWS] &= scl[row : row + _ROWS] != SCL_WATER
    return dark
