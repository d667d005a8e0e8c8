"""Percentages that sum to what they claim."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.classes import DECIMALS, MaskClass, MaskStatistics, measure_mask


def build_mask(no_data: int = 0, clear: int = 0, cloud: int = 0, shadow: int = 0):
    return np.repeat(np.array(list(MaskClass), np.uint8), [no_data, clear, cloud, shadow])[None]


def as_decimal(percentage: float) -> Decimal:
    return Decimal(repr(percentage))


def test_percentages_are_of_valid_pixels_and_no_data_of_all():
    classes = build_mask(no_data=60, clear=20, cloud=15, shadow=5)
    assert measure_mask(classes) == MaskStatistics(37.5, 12.5, 50.0, 60.0)


def test_thirds_still_sum_to_a_hundred():
    assert measure_mask(build_mask(clear=1, cloud=1, shadow=1)) == MaskStatistics(33.34, 33.33, 33.33, 0.0)


@pytest.mark.parametrize("shape", [(3, 7), (0, 7)])
def test_percentages_of_nothing_are_zero(shape):
    statistics = measure_mask(np.zeros(shape, np.uint8))
    assert statistics == MaskStatistics(0.0, 0.0, 0.0, 100.0 if shape[0] else 0.0)


def test_every_row_of_a_tall_mask_counts():
    classes = np.ones((1537, 2), np.uint8)
    classes[[0, 511, 512, 1536]] = MaskClass.CLOUD
    assert measure_mask(classes).cloud_percentage == round(100 * 4 / 1537, DECIMALS)


counts = st.integers(0, 700)


@given(counts, counts, counts, counts)
def test_published_decimals_sum_to_exactly_100(no_data, clear, cloud, shadow):
    valid = clear + cloud + shadow
    statistics = measure_mask(build_mask(no_data, clear, cloud, shadow))
    parts = [statistics.clear_percentage, statistics.cloud_percentage, statistics.shadow_percentage]
    assert sum(map(as_decimal, parts)) == (100 if valid else 0)
    for part, count in zip(parts, (clear, cloud, shadow), strict=True):
        assert -as_decimal(part).as_tuple().exponent <= DECIMALS
        if valid:
            assert abs(part - 100 * count / valid) < 0.01
