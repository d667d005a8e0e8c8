"""Random rasters for the tests: blobs rather than noise, so that disks fit in and seams are crossed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import CloudInputs

COARSE = 5
"""Pixels of 20 m along a pixel of 100 m."""


def coarse_shape(shape: tuple[int, int]) -> tuple[int, int]:
    return (-(-shape[0] // COARSE), -(-shape[1] // COARSE))


def draw_blobs(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Rectangles of one to a dozen pixels a side, some specks, at a random density."""
    blobs = np.zeros(shape, np.bool_)
    height, width = shape
    for _ in range(rng.integers(0, 3 + height * width // 150)):
        row, col = rng.integers(-6, height), rng.integers(-6, width)
        rows, cols = rng.integers(1, 13, size=2)
        blobs[max(row, 0) : max(row + rows, 0), max(col, 0) : max(col + cols, 0)] = True
    return blobs ^ (rng.random(shape) < rng.choice([0, 0.002, 0.02]))


def draw_wedge(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """One side of a slanting line, as the edge of a swath is; often nothing."""
    row, col = np.indices(shape)
    slope, offset = rng.normal(size=2)
    return row - shape[0] * rng.random() < slope * (col - shape[1] * (0.5 + offset))


def draw_inputs(rng: np.random.Generator, shape: tuple[int, int]) -> CloudInputs:
    """Inputs of a scene with clouds, dark ground and, half the time, a wedge without data."""
    probability_pct = rng.integers(0, 51, size=shape, dtype=np.uint8)
    probability_pct[draw_blobs(rng, shape)] = rng.integers(51, 101)
    coarse = rng.integers(0, 51, size=coarse_shape(shape), dtype=np.uint8)
    coarse[rng.random(coarse.shape) < rng.choice([0, 0.03, 0.2])] = rng.integers(51, 101)
    if rng.random() < 0.5:
        nodata = draw_wedge(rng, shape)
        probability_pct[nodata] = 255
        coarse[nodata[::COARSE, ::COARSE]] = 255
    dark = draw_blobs(rng, shape) if rng.random() < 0.5 else ~draw_blobs(rng, shape)
    return CloudInputs(probability_pct, dark, coarse)
