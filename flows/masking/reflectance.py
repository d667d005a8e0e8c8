"""Reflectances of Sentinel-2's digital numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flows.masking.cloud import REFLECTANCE_SCALE
from flows.scene.radiometry import reflectance_offset_dn

MAX_REFLECTANCE = 2.0
"""Nothing on Earth is brighter. The digital number of a saturated pixel, 65535, would else be 6.5, and
one such pixel would sway what a network thinks of its whole tile."""

_DN_COUNT = 1 << 16


def build_reflectance_table(processing_baseline: str) -> NDArray[np.float32]:
    """The reflectance of every digital number, float32 ``(65536,)`` in 0..2: ``table[dn]`` converts pixels.

    0, which is no data in every baseline, gives 0; so do the digital numbers that the offset makes
    negative.
    """
    dn = np.arange(_DN_COUNT, dtype=np.int32) + reflectance_offset_dn(processing_baseline)
    reflectance = dn.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
    return np.clip(reflectance, 0, MAX_REFLECTANCE, out=reflectance)
