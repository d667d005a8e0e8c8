from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pc_cloudmask.raster.picture import encode_picture

pictures = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4])).flatmap(
    lambda shape: arrays(np.uint8, shape)
)


def decode(png: bytes) -> NDArray[np.uint8]:
    """(height, width, channels), as GDAL reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(io.BytesIO(png), driver="PNG") as picture:
            return picture.read().transpose(1, 2, 0)


@pytest.mark.slow
@given(pictures)
def test_a_picture_is_read_back_as_it_was(pixels: NDArray[np.uint8]) -> None:
    png = encode_picture(pixels)
    assert np.array_equal(decode(png), pixels)
    assert encode_picture(pixels) == png
