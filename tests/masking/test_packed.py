"""Packing in segments and out again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pc_cloudmask.masking.clouds_and_shadows import SEGMENTS, Strip

pytestmark = pytest.mark.slow

shapes = st.tuples(st.integers(1, 60), st.integers(1, 20))
seeds = st.integers(0, 2**32 - 1)


def draw_bits(seed: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < 0.5


def test_each_bit_is_a_segment():
    raster = np.eye(16, 3, dtype=np.bool_)
    raster[15, 1] = True
    packed = Strip(16, first_row=0, segment_height=2).pack(lambda rows: raster[rows], 3)
    assert packed.tolist() == [[1, 0, 2], [0, 1 + 128, 0]]


@given(shapes, seeds, st.integers(0, 70), st.integers(1, 9), st.integers(0, 12))
def test_segments_bring_the_rows_around_them(shape, seed, first_row, segment_height, halo):
    raster = draw_bits(seed, shape)
    strip = Strip(shape[0], first_row, segment_height, halo)
    packed = strip.pack(lambda rows: raster[rows], shape[1])
    # The same from a raster so padded that no row is missing.
    padded = np.pad(raster, ((halo, 200), (0, 0)))
    for segment in range(SEGMENTS):
        top = first_row + segment * segment_height
        expected = padded[top : top + segment_height + 2 * halo]
        np.testing.assert_array_equal(packed >> segment & 1, expected)


@given(shapes, seeds, st.integers(1, 9))
def test_pairs_come_out_where_they_went_in(shape, seed, segment_height):
    low, high = draw_bits(seed, shape), draw_bits(seed + 1, shape)
    out = np.full(shape, 99, np.uint8)
    for first_row in range(0, shape[0], SEGMENTS * segment_height):
        strip = Strip(shape[0], first_row, segment_height)
        packed_low, packed_high = (strip.pack(lambda rows, r=r: r[rows], shape[1]) for r in (low, high))
        strip.unpack_pairs(packed_low, packed_high, out)
    np.testing.assert_array_equal(out, low + 2 * high.astype(np.uint8))


@pytest.mark.parametrize(("first_row", "rows"), [(0, slice(0, 19)), (16, slice(13, 35)), (32, slice(29, 40))])
def test_a_strip_knows_the_rows_it_reads(first_row, rows):
    assert Strip(40, first_row, segment_height=2, halo=3).rows == rows
