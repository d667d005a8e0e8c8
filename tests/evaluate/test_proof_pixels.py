"""How pixels are compared, and which window is asked for alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pc_cloudmask.evaluate.proof import Difference, anonymise, choose_window, compare_pixels


def test_the_first_pixel_that_differs_is_named_with_both_values() -> None:
    one = np.zeros((4, 7), np.uint8)
    other = one.copy()
    other[2, 5], other[3, 0] = 3, 1
    difference = compare_pixels(one, other)
    assert difference == Difference(28, 2, (2, 5, 0, 3))
    assert str(difference) == "2 of 28 pixels differ, the first at row 2, column 5: 0 and 3"
    assert not difference.is_none


def test_pixels_without_data_do_not_count_and_nothing_compared_is_no_equality() -> None:
    one, other = np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)
    nowhere = np.zeros((2, 3), bool)
    assert not compare_pixels(one, other, nowhere).is_none
    nowhere[1, 1] = True
    assert compare_pixels(one, other, nowhere) == Difference(1, 1, (1, 1, 0, 1))
    assert compare_pixels(one, one, nowhere).is_none


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (13, 40), (1100, 1300)])
def test_the_window_lies_within_the_raster(shape: tuple[int, int]) -> None:
    window = choose_window(np.zeros(shape, np.uint8))
    assert min(window.shape) >= 1
    assert window.row >= 0
    assert window.col >= 0
    assert window.row + window.height <= shape[0]
    assert window.col + window.width <= shape[1]


def test_the_window_is_where_classes_meet() -> None:
    classes = np.ones((1000, 1200), np.uint8)
    classes[900:940:2, 1000:1050:3] = 2
    window = choose_window(classes)
    assert (classes[window.slices] == 2).sum() == (classes == 2).sum()
    assert window.row % 2 == window.col % 2 == 1


def test_a_project_is_hidden_as_a_word_and_the_home_by_its_sign() -> None:
    text = f"project map at {Path.home()}/key.json: a map of cloudmap, not map-2"
    assert anonymise(text, {"map": "PROJECT"}) == (
        "project PROJECT at ~/key.json: a PROJECT of cloudmap, not map-2"
    )
