from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.masking.files import draw_outlines

CLOUD, SHADOW = (CLASS_STYLES[mask_class].color for mask_class in (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW))
GROUND = 90
masks = st.tuples(st.integers(1, 12), st.integers(1, 17)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)


def draw(classes: NDArray[np.uint8], width_px: int = 2) -> NDArray[np.uint8]:
    return draw_outlines(np.full((*classes.shape, 3), GROUND, np.uint8), classes, width_px)


def is_colour(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return (picture == colour).all(axis=-1)


@pytest.mark.slow
@given(masks, st.integers(1, 3))
def test_lines_are_what_an_erosion_takes_off(classes: NDArray[np.uint8], width_px: int) -> None:
    drawn = draw(classes, width_px)
    expected = np.zeros(classes.shape, bool)
    for mask_class, colour in ((MaskClass.CLOUD, CLOUD), (MaskClass.CLOUD_SHADOW, SHADOW)):
        region = classes == mask_class
        line = region & ~ndimage.binary_erosion(region, iterations=width_px, border_value=1)
        assert np.array_equal(is_colour(drawn, colour), line)
        expected |= line
    assert (drawn[~expected] == GROUND).all()


def test_a_cloud_keeps_its_inside_and_an_edge_of_the_picture_gets_no_line() -> None:
    classes = np.full((20, 31), MaskClass.CLEAR, np.uint8)
    classes[:12, 8:20] = MaskClass.CLOUD
    drawn = is_colour(draw(classes), CLOUD)
    assert not drawn[0, 10:18].any()
    assert drawn[0, [8, 9, 18, 19]].all()
    assert drawn[[10, 11], 8:20].all()
    assert not drawn[:10, 10:18].any()
    assert not drawn[12:].any()


def test_the_picture_that_was_given_stays_as_it_was() -> None:
    picture = np.full((3, 4, 3), GROUND, np.uint8)
    draw_outlines(picture, np.full((3, 4), MaskClass.CLOUD, np.uint8))
    assert (picture == GROUND).all()
