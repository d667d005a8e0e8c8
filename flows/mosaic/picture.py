"""Pictures of mosaics."""

from __future__ import annotations

import numpy as np

from flows.mosaic.reducers import NO_VALUE, Values
from flows.rendering.png import encode_picture

Stretch = tuple[float, float]
"""Digital numbers that become black and white."""

_PERCENTILES = (0.5, 99.5)


def find_stretch(values: Values) -> Stretch:
    """One stretch for all bands, which keeps their colours, from the middle 99 % of the values."""
    held = values[values != NO_VALUE]
    if not held.size:
        return (0.0, 1.0)
    low, high = np.percentile(held, _PERCENTILES)
    return (float(low), float(max(high, low + 1)))


def draw_picture(values: Values, stretch: Stretch) -> bytes:
    """A PNG of the first three bands as red, green and blue, or of one as grey; transparent without data.

    ``values`` is ``(band, height, width)``.
    """
    low, high = stretch
    shown = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
    scaled = np.clip((shown.astype(np.float32) - low) / (high - low), 0, 1)
    pixels = np.empty((*values.shape[1:], 4), np.uint8)
    pixels[..., :3] = np.rint(255 * scaled).transpose(1, 2, 0)
    pixels[..., 3] = 255 * (values != NO_VALUE).all(axis=0)
    return encode_picture(pixels)
