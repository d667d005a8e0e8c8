"""Fractal noise for the sample archive.

Only sums and products of single elements are taken: no reduction and no transcendental function, so
the same seed gives the same bits whatever vector unit numpy was compiled for.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flows.scene.grid import Shape

FloatArray = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


def build_noise(rng: np.random.Generator, shape: Shape, octaves: int, persistence: float) -> FloatArray:
    """Smooth noise about zero, float32 ``shape``, values roughly within -1..1.

    The coarsest of the ``octaves`` has cells of ``2 ** octaves`` pixels; each finer one has half that
    size and ``persistence`` times the amplitude; the finest has cells of two pixels.
    """
    noise = _draw_uniform(rng, _cells(shape, 2**octaves))
    amplitude = np.float32(1.0)
    for octave in range(octaves - 1, 0, -1):
        amplitude *= np.float32(persistence)
        rows, cols = _cells(shape, 2**octave)
        noise = upsample_twice(noise)[:rows, :cols]
        noise += amplitude * _draw_uniform(rng, (rows, cols))
    return upsample_twice(noise)[: shape[0], : shape[1]]


def build_smooth_noise(
    rng: np.random.Generator, shape: Shape, octaves: int, persistence: float
) -> FloatArray:
    """Noise whose finest cells are eight pixels, the coarsest ``4 * 2 ** octaves``."""
    quarter = (shape[0] // 4 + 1, shape[1] // 4 + 1)
    noise = upsample_twice(upsample_twice(build_noise(rng, quarter, octaves, persistence)))
    return noise[: shape[0], : shape[1]]


def _cells(shape: Shape, size: int) -> Shape:
    """How many cells of ``size`` pixels cover ``shape``, with one to spare."""
    return (-(-shape[0] // size) + 1, -(-shape[1] // size) + 1)


def upsample_twice(values: FloatArray) -> FloatArray:
    """``values`` at half the pixel size, interpolated smoothly, (2h, 2w)."""
    return _double_rows(_double_rows(values).T).T


def repeat_twice(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """``values`` at half the pixel size, each pixel as four, (2h, 2w)."""
    return values.repeat(2, axis=0).repeat(2, axis=1)


def smooth_step(values: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, and a cubic between."""
    clipped = np.clip(values, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def mean_of_four(values: FloatArray) -> FloatArray:
    """Means of 2 x 2 pixels, (h/2, w/2)."""
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) * np.float32(0.25)


def round_to(values: FloatArray, steps: int) -> FloatArray:
    """``values`` to the nearest ``1 / steps``: what the eye does not see need not be stored."""
    rounded: FloatArray = np.rint(values * np.float32(steps))
    return rounded * np.float32(1 / steps)


def _draw_uniform(rng: np.random.Generator, shape: Shape) -> FloatArray:
    return 2 * rng.random(shape, dtype=np.float32) - 1


def _double_rows(values: FloatArray) -> FloatArray:
    """Chaikin's corner cutting along the rows: repeated, it tends to a quadratic B-spline."""
    near = np.float32(0.75) * values
    far = np.float32(0.25) * values
    doubled = np.empty((2 * values.shape[0], values.shape[1]), np.float32)
    doubled[0::2], doubled[1::2] = near, near
    doubled[2::2] += far[:-1]
    doubled[1:-1:2] += far[1:]
    doubled[0] += far[0]
    doubled[-1] += far[-1]
    return doubled
