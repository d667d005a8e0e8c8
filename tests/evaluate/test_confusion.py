"""Counts and scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.evaluate.labels import Confusion, count_confusion, sum_confusions
from pc_cloudmask.evaluate.masks import grow_mask
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_classes
from tests.evaluate.plain import assert_same, expect

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=60)


@pytest.mark.slow
@given(PAIRS)
def test_counts_and_scores_are_those_of_loops_over_pixels(pairs: list[tuple[int, int]]) -> None:
    labels, classes = (np.array([pair[side] for pair in pairs], np.uint8) for side in (0, 1))
    assert_same(count_confusion(labels, classes).as_json(), expect(pairs))


@pytest.mark.slow
@given(PAIRS, PAIRS)
def test_in_all_is_of_all_pixels_together(some: list[tuple[int, int]], more: list[tuple[int, int]]) -> None:
    parts = [count_confusion(*np.array(part, np.uint8).reshape(-1, 2).T) for part in (some, more)]
    assert_same(sum_confusions(parts).as_json(), expect(some + more))


def test_what_is_a_share_of_nothing_is_null() -> None:
    nothing = Confusion().as_json()
    assert nothing["agreement_percentage"] is None
    assert all(value is None for scores in nothing["scores"].values() for value in scores.values())


def test_a_clear_scene_masked_clear_has_no_recall_and_no_precision() -> None:
    clear = count_confusion(np.ones((2, 2), np.uint8), np.ones((2, 2), np.uint8)).as_json()
    assert clear["agreement_percentage"] == 100
    assert clear["scores"]["cloud"] == dict.fromkeys(
        ("iou", "f1", "recall", "precision", "balanced_accuracy")
    )


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) pixels are not those of a mask of \(4, 1\)"):
        count_confusion(np.ones((2, 2), np.uint8), np.ones((4, 1), np.uint8))


@pytest.mark.parametrize("shape", [(7, 23), (1000, 40), (1, 1)])
@pytest.mark.parametrize("buffer_m", [0, 9, 50, 170])
def test_a_mask_grows_by_disks_of_twice_the_buffer(shape: tuple[int, int], buffer_m: float) -> None:
    seeds = np.random.default_rng(1).integers(0, 400, shape)
    classes = np.where(seeds < 4, seeds, 1).astype(np.uint8)
    radius_px, (height, width) = 2 * buffer_m / 20, shape
    reach = int(radius_px)
    padded, expected = np.pad(classes, reach), classes.copy()
    for mask_class in (3, 2):  # cloud comes before shadow
        near = np.zeros(shape, np.bool_)
        for dy, dx in np.ndindex(2 * reach + 1, 2 * reach + 1):
            if (dy - reach) ** 2 + (dx - reach) ** 2 <= radius_px**2:
                near |= padded[dy : dy + height, dx : dx + width] == mask_class
        expected[near & (classes != 0)] = mask_class
    np.testing.assert_array_equal(grow_mask(classes, buffer_m, 20), expected)


def test_a_grown_mask_is_the_one_with_a_buffer_where_no_cloud_was_eroded() -> None:
    cloud = np.zeros((120, 90), np.bool_)
    cloud[30:60, 20:50] = True
    shadow = np.roll(cloud, (35, 25), (0, 1))
    bare, buffered = (
        compose_classes(cloud, shadow, np.ones_like(cloud), MaskParameters(buffer_m=buffer_m))
        for buffer_m in (0, 40)
    )
    grown = grow_mask(bare, 40, 20)
    # The class of a masked pixel is told by the clouds before their erosion: shadows may differ by that much.
    np.testing.assert_array_equal(grown > 1, buffered > 1)
    assert (grown != buffered).mean() < 0.01
