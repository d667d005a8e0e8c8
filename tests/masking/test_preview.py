from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.masking.files import build_preview, encode_classes, reduce_classes

RGBA = NDArray[np.uint8]
ROW, COL = np.mgrid[-5:6, -5:6]
SMALLEST_CLOUD = ROW**2 + COL**2 <= 25
"""What dilation by five pixels makes of one cloudy pixel."""


def decode_png(png: bytes) -> RGBA:
    bgra = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.ascontiguousarray(bgra[..., [2, 1, 0, 3]])


@pytest.mark.slow
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 3))
)
def test_a_png_shows_each_class_in_its_colour(classes: NDArray[np.uint8]) -> None:
    picture = decode_png(encode_classes(classes))
    assert picture.shape == (*classes.shape, 4)
    for value, style in CLASS_STYLES.items():
        shown = picture[classes == value]
        assert (shown[:, :3] == style.color).all()
        assert (shown[:, 3] == (255 if style.opaque else 0)).all()


def test_only_cloud_and_shadow_are_opaque() -> None:
    assert {value for value, style in CLASS_STYLES.items() if style.opaque} == {
        MaskClass.CLOUD,
        MaskClass.CLOUD_SHADOW,
    }


@pytest.mark.parametrize(
    ("shape", "size_px", "expected"),
    [
        ((1098, 2196), 512, (220, 440)),
        ((2196, 1098), 512, (440, 220)),
        ((100, 60), 512, (100, 60)),
        ((513, 512), 512, (257, 256)),
        ((1000, 3), 100, (100, 1)),
    ],
)
def test_a_preview_keeps_the_aspect(shape: tuple[int, int], size_px: int, expected: tuple[int, int]) -> None:
    png, preview_shape = build_preview(np.ones(shape, np.uint8), size_px)
    assert preview_shape == expected
    assert decode_png(png).shape[:2] == expected


@given(st.integers(0, 290), st.integers(0, 190), st.sampled_from([MaskClass.CLOUD, MaskClass.CLOUD_SHADOW]))
def test_the_smallest_cloud_is_seen_wherever_it_lies(row: int, col: int, value: MaskClass) -> None:
    classes = np.ones((301, 201), np.uint8)
    classes[row : row + 11, col : col + 11][SMALLEST_CLOUD] = value
    reduced = reduce_classes(classes, 11)
    rows, cols = np.nonzero(reduced == value)
    assert len(rows) > 0
    assert set(np.unique(reduced)) == {MaskClass.CLEAR, value}
    assert (np.abs(rows * 11 + 5 - (row + 5)) <= 11).all()
    assert (np.abs(cols * 11 + 5 - (col + 5)) <= 11).all()


@pytest.mark.slow
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 3)),
    st.integers(2, 9),
)
def test_cells_are_counted_as_plain_loops_count_them(classes: NDArray[np.uint8], factor: int) -> None:
    reduced = reduce_classes(classes, factor)
    for row, col in np.ndindex(*reduced.shape):
        cell = classes[row * factor : (row + 1) * factor, col * factor : (col + 1) * factor]
        cloud, shadow = (int((cell == value).sum()) for value in (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW))
        if (cloud + shadow) * 8 >= cell.size:
            expected = MaskClass.CLOUD if cloud >= shadow else MaskClass.CLOUD_SHADOW
        else:
            expected = MaskClass.NO_DATA if cell[0, 0] == MaskClass.NO_DATA else MaskClass.CLEAR
        assert reduced[row, col] == expected


def test_cells_of_more_pixels_than_a_byte_counts_are_counted() -> None:
    assert (reduce_classes(np.full((600, 700), 3, np.uint8), 300) == MaskClass.CLOUD_SHADOW).all()


def test_the_same_mask_gives_the_same_bytes() -> None:
    classes = np.random.default_rng(0).integers(0, 4, (700, 300)).astype(np.uint8)
    assert build_preview(classes) == build_preview(classes)
