"""The disk, and dilation by it, against scipy's filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.clouds_and_shadows import Strip, dilate, disk_half_widths, disk_reach
from tests.masking import reference
from tests.masking.rasters import draw_blobs

fractional_radii = st.one_of(
    st.floats(0, 12), st.sampled_from([0.0, 0.99, 1.0, 2**0.5, 2.0, 5**0.5, 5.0, 7.5, 10.0])
)


@pytest.mark.parametrize(("radius_px", "pixels"), [(0, 1), (0.99, 1), (1, 5), (1.5, 9), (2, 13), (5, 81)])
def test_the_disk_is_earth_engines_circle(radius_px, pixels):
    centre, *others = (2 * half_width + 1 for half_width in disk_half_widths(radius_px))
    assert centre + 2 * sum(others) == pixels


@given(fractional_radii)
def test_the_disk_holds_what_is_within_its_radius(radius_px):
    reach = disk_reach(radius_px)
    footprint = np.zeros((2 * reach + 1, 2 * reach + 1), np.bool_)
    for dy, half_width in enumerate(disk_half_widths(radius_px)):
        for row in (reach - dy, reach + dy):
            footprint[row, reach - half_width : reach + half_width + 1] = True
    expected = reference.disk(radius_px)
    margin = (len(expected) - len(footprint)) // 2
    np.testing.assert_array_equal(np.pad(footprint, margin), expected)


@given(st.integers(1, 30), st.integers(1, 30), fractional_radii, st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_dilation_equals_scipys(height, width, radius_px, margin, seed):
    raster = draw_blobs(np.random.default_rng(seed), (height, width))
    segment_height, halo = -(-height // 8), disk_reach(radius_px)
    packed = Strip(height, 0, segment_height, halo).pack(lambda rows: raster[rows], width)
    dilated = np.zeros((height, width + 2 * margin), np.uint8)
    grown = dilate(packed, radius_px, margin)
    Strip(height, 0, segment_height).unpack_pairs(grown, np.zeros_like(grown), dilated)
    beyond = np.pad(raster, ((0, 0), (margin, margin)))
    expected = reference.Image(beyond, np.ones_like(beyond)).focal_max(radius_px).values
    np.testing.assert_array_equal(dilated, expected)
