"""Pixels as a test asks the client for them."""

from __future__ import annotations

from typing import Any

import ee
import numpy as np
from numpy.typing import NDArray

from tests.doubles.earth_engine.sentinel2 import Sentinel2


def build_grid(
    product: Sentinel2, pixel_size_m: float, window: tuple[int, int, int, int] | None = None
) -> dict[str, Any]:
    """``PixelGrid`` of a window ``(row, col, height, width)`` of the product's tile, all of it by default."""
    rows, cols = product.shape_10m
    row, col, height, width = window or (
        0,
        0,
        round(rows * 10 / pixel_size_m),
        round(cols * 10 / pixel_size_m),
    )
    west, north = product.origin
    return {
        "dimensions": {"width": width, "height": height},
        "affineTransform": {
            "scaleX": pixel_size_m,
            "shearX": 0,
            "translateX": west + col * pixel_size_m,
            "shearY": 0,
            "scaleY": -pixel_size_m,
            "translateY": north - row * pixel_size_m,
        },
        "crsCode": product.crs,
    }


def read_pixels(image: Any, grid: dict[str, Any]) -> NDArray[Any]:
    """The first band of an ``ee.Image`` on a grid."""
    pixels = ee.data.computePixels({"expression": image, "grid": grid, "fileFormat": "NUMPY_NDARRAY"})
    return np.asarray(pixels[pixels.dtype.names[0]])
