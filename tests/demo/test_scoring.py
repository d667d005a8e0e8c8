"""Scores of hand-made masks, and of any mask against a reference written with scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from pc_cloudmask.demo.demo import TARGETS, MaskScore, score_mask
from pc_cloudmask.masking.classes import MaskParameters

ALL = MaskScore(1, 1, 1, 1)
NO_BUFFER = MaskParameters(buffer_m=0)
SHAPE = (9, 14)
classes_arrays = arrays(np.uint8, SHAPE, elements=st.integers(0, 3))


def draw(*rows: str) -> NDArray[np.uint8]:
    """Classes from digits, a string for each row."""
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


def test_the_truth_itself_scores_one_without_a_buffer():
    truth = draw("0011", "1223", "1233")
    assert score_mask(truth, truth, NO_BUFFER) == ALL


def test_recalls_are_shares_of_the_truth():
    truth = draw("122221", "133331")
    classes = draw("122211", "113131")
    score = score_mask(classes, truth, NO_BUFFER)
    assert (score.cloud_recall, score.shadow_recall) == (0.75, 0.5)


def test_ious_also_count_what_is_masked_for_nothing():
    truth = draw("122111", "133111")
    classes = draw("122221", "133331")
    score = score_mask(classes, truth, NO_BUFFER)
    assert (score.cloud_recall, score.shadow_recall) == (1, 1)
    assert (score.cloud_iou, score.shadow_iou) == (0.5, 0.5)


def test_cloud_masked_as_shadow_is_not_recalled():
    assert score_mask(draw("133"), draw("122"), NO_BUFFER).cloud_recall == 0


def test_shadow_counts_as_cloud_only_within_the_buffer_of_a_true_cloud():
    truth = draw("1123311111111")
    one_pixel = MaskParameters(buffer_m=10)  # twice 10 m are a pixel of 20 m
    assert score_mask(draw("1122211111111"), truth, one_pixel).shadow_recall == 0.5
    assert score_mask(draw("1122311111111"), truth, one_pixel).shadow_recall == 1


def test_the_truth_is_grown_by_the_buffer_with_cloud_first():
    truth = draw("11111", "11231", "11111")
    grown = draw("11213", "12223", "11213")
    one_pixel = MaskParameters(buffer_m=10)
    expected = draw("11231", "12223", "11231")
    score = score_mask(expected, truth, one_pixel)
    assert (score.cloud_iou, score.shadow_iou) == (1, 1)
    assert score_mask(grown, truth, one_pixel).shadow_iou == pytest.approx(1 / 5)


def test_where_the_truth_is_unknown_nothing_counts():
    score = score_mask(draw("2231"), draw("0021"), NO_BUFFER)
    assert (score.cloud_recall, score.cloud_iou) == (0, 0)
    assert score_mask(draw("2221"), draw("0021"), NO_BUFFER).cloud_iou == 1


def test_a_mask_without_data_misses_what_is_there():
    assert score_mask(draw("00"), draw("23"), NO_BUFFER) == MaskScore(0, 0, 0, 0)


def test_nothing_to_find_and_nothing_found_is_one():
    assert score_mask(draw("11"), draw("11"), NO_BUFFER) == ALL


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"a mask of \(1, 2\) pixels has no truth of \(2, 1\)"):
        score_mask(draw("11"), draw("1", "1"), NO_BUFFER)


def test_shadow_on_water_is_shadow_like_any_other_and_counted_besides():
    score = score_mask(draw("131311"), draw("134431"), NO_BUFFER)
    assert (score.shadow_recall, score.shadow_iou) == (0.5, 0.5)
    assert (score.water_shadow_px, score.water_shadow_found_px) == (2, 1)


def test_masked_haze_is_masked_for_nothing_and_counted_besides():
    score = score_mask(draw("122231"), draw("125555"), NO_BUFFER)
    assert (score.cloud_recall, score.cloud_iou, score.shadow_iou) == (1, 1 / 3, 0)
    assert (score.haze_px, score.haze_found_px) == (4, 3)


@pytest.mark.parametrize("share", ["cloud_recall", "cloud_iou", "shadow_recall", "shadow_iou"])
def test_targets_are_met_share_by_share(share: str):
    assert TARGETS.meets(TARGETS)
    assert not replace(ALL, **{share: getattr(TARGETS, share) - 0.01}).meets(TARGETS)


@pytest.mark.slow
@given(classes_arrays, classes_arrays, st.sampled_from([0.0, 15.0, 20.0, 50.0]))
def test_it_equals_the_definition(classes: NDArray[np.uint8], truth: NDArray[np.uint8], buffer_m: float):
    score = score_mask(classes, truth, MaskParameters(buffer_m=buffer_m))
    radius = buffer_m * 2 / 20
    offsets = np.arange(-int(radius), int(radius) + 1)
    disk = offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2
    known = truth > 0
    cloud = ndimage.binary_dilation(truth == 2, disk) & known
    shadow = ndimage.binary_dilation(truth == 3, disk) & known & ~cloud
    expected = np.where(cloud, 2, np.where(shadow, 3, 1))
    marked = np.where(known, classes, 1)

    def share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
        return part.sum() / whole.sum() if whole.any() else 1.0

    shadow_found = (marked == 3) | (marked == 2) & (expected == 2)
    assert score.cloud_recall == share((marked == 2) & (truth == 2), truth == 2)
    assert score.shadow_recall == share(shadow_found & (truth == 3), truth == 3)
    for iou, value in ((score.cloud_iou, 2), (score.shadow_iou, 3)):
        assert iou == share((marked == value) & (expected == value), (marked == value) | (expected == value))
