"""Pyramid levels against means and nearest pixels taken one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pc_cloudmask.masking.s2cloudless import build_coarse_probability, mean_pyramid

NODATA = 255
probabilities = arrays(
    np.uint8,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    elements=st.one_of(st.integers(0, 100), st.just(NODATA)),
)


def reference_level(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = values.shape
    level = np.empty((math.ceil(height / 2), math.ceil(width / 2)), np.uint8)
    for row, col in np.ndindex(level.shape):
        cell = [int(v) for v in values[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel() if v != NODATA]
        level[row, col] = math.floor(sum(cell) / len(cell) + 0.5) if cell else NODATA
    return level


@pytest.mark.slow
@given(probabilities)
def test_a_level_is_the_rounded_mean_of_valid_pixels(values: NDArray[np.uint8]):
    np.testing.assert_array_equal(mean_pyramid(values, NODATA), reference_level(values))


@given(probabilities)
def test_coarse_pixels_are_those_at_their_centres_80_m_level(values: NDArray[np.uint8]):
    level = reference_level(reference_level(values))
    coarse = build_coarse_probability(values)
    assert coarse.shape == (math.ceil(values.shape[0] / 5), math.ceil(values.shape[1] / 5))
    for row, col in np.ndindex(coarse.shape):
        at = (int((row + 0.5) * 100 // 80), int((col + 0.5) * 100 // 80))
        inside = at[0] < level.shape[0] and at[1] < level.shape[1]
        assert coarse[row, col] == (level[at] if inside else NODATA)


def test_strips_with_and_without_data_are_alike():
    values = np.random.default_rng(5).integers(0, 101, (601, 31)).astype(np.uint8)
    values[150:210, 10:] = NODATA
    np.testing.assert_array_equal(mean_pyramid(values, NODATA), reference_level(values))


def test_halves_are_rounded_up():
    assert mean_pyramid(np.array([[50, 51], [NODATA, NODATA]], np.uint8), NODATA) == [[51]]


def test_a_coarse_pixel_whose_centre_is_outside_has_no_data():
    """16 pixels are 320 m: the fourth coarse pixel begins at 300 m, its centre is at 350 m."""
    coarse = build_coarse_probability(np.full((16, 20), 7, np.uint8))
    np.testing.assert_array_equal(coarse, [[7, 7, 7, 7]] * 3 + [[NODATA] * 4])
