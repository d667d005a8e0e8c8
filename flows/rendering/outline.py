"""Outlines of clouds and their shadows on a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flows.masking.classes import CLASS_STYLES, MaskClass

WIDTH_PX = 2


def draw_outlines(
    picture: NDArray[np.uint8], classes: NDArray[np.uint8], width_px: int = WIDTH_PX
) -> NDArray[np.uint8]:
    """``picture`` with a line inside the edge of each cloud and shadow, in the class's colour.

    Where a cloud or shadow is cut by the picture's own edge there is no line.

    ``picture`` is uint8 ``(height, width, 3)``, ``classes`` uint8 ``(height, width)`` of ``MaskClass``.
    """
    drawn = picture.copy()
    for mask_class in (MaskClass.CLOUD_SHADOW, MaskClass.CLOUD):
        inside = classes == mask_class
        drawn[inside & ~_shrink(inside, width_px)] = CLASS_STYLES[mask_class].color
    return drawn


def _shrink(region: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Pixels of ``region`` that are more than ``steps`` pixels, by rows and columns, from any outside it."""
    for _ in range(steps):
        padded = np.pad(region, 1, mode="edge")
        region = region & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region
