"""Many observations of a pixel become one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pc_cloudmask.mosaic.compose import drop_repeats, find_first, find_median, find_median_flags, harmonise

pytestmark = pytest.mark.slow

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))


@st.composite
def stacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, usable, flagged, of one shape that is seldom square."""
    shape = draw(SHAPES)
    values = draw(npst.arrays(np.uint16, shape, elements=st.integers(1, 0xFFFE)))
    usable = draw(npst.arrays(bool, shape))
    return values, usable, draw(npst.arrays(bool, shape))


@given(stacks())
def test_median_is_that_of_the_usable_values(stack: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    values, usable, _ = stack
    expected = np.zeros(values.shape[1:], np.uint16)
    for place in np.ndindex(expected.shape):
        held = np.sort(values[(slice(None), *place)][usable[(slice(None), *place)]].astype(int))
        if held.size:
            expected[place] = (held[(held.size - 1) // 2] + held[held.size // 2] + 1) // 2
    median = find_median(values.copy(), usable)
    assert median.dtype == np.uint16
    np.testing.assert_array_equal(median, expected)


@given(stacks())
def test_a_median_is_flagged_by_the_values_in_the_middle(
    stack: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    values, usable, flagged = stack
    # Distinct values: with equal ones either may be called the one in the middle.
    values = (np.argsort(np.argsort(values, axis=0), axis=0) + 1).astype(np.uint16)
    expected = np.zeros(values.shape[1:], bool)
    for place in np.ndindex(expected.shape):
        column = (slice(None), *place)
        order = [index for index in np.argsort(values[column]) if usable[column][index]]
        if order:
            middle = {order[(len(order) - 1) // 2], order[len(order) // 2]}
            expected[place] = any(flagged[column][index] for index in middle)
    np.testing.assert_array_equal(find_median_flags(values, usable, flagged), expected)


@given(stacks())
def test_first_is_the_lowest_usable_number(stack: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, usable, _ = stack
    first = find_first(usable)
    for place in np.ndindex(first.shape):
        numbers = np.flatnonzero(usable[(slice(None), *place)])
        assert first[place] == (numbers[0] if numbers.size else -1)


@given(stacks(), st.data())
def test_a_pass_counts_once_at_a_pixel_and_no_pixel_is_lost(
    stack: tuple[np.ndarray, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    _, usable, _ = stack
    count = len(usable)
    passes = data.draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
    kept = usable.copy()
    drop_repeats(kept, passes)
    assert not (kept & ~usable).any()
    for name in set(passes):
        of_pass = [index for index, each in enumerate(passes) if each == name]
        assert kept[of_pass].sum(axis=0).max() <= 1
        np.testing.assert_array_equal(kept[of_pass].any(axis=0), usable[of_pass].any(axis=0))


def test_harmonising_keeps_no_data_apart_from_dark_ground() -> None:
    values = np.array([[0, 1, 999, 1000, 1001, 1500, 65535]], np.uint16)
    harmonise(values, -1000)
    np.testing.assert_array_equal(values, [[0, 1, 1, 1, 1, 500, 64535]])
    harmonise(values, 0)
    np.testing.assert_array_equal(values, [[0, 1, 1, 1, 1, 500, 64535]])
