from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.clouds_and_shadows import MAX_REFLECTANCE, build_reflectance_table

BASELINES_WITHOUT_OFFSET = ("02.12", "03.00", "03.01")
BASELINES_WITH_OFFSET = ("04.00", "05.09", "10.00")


@pytest.mark.parametrize("baseline", BASELINES_WITHOUT_OFFSET + BASELINES_WITH_OFFSET)
def test_table_converts_every_uint16(baseline: str) -> None:
    table = build_reflectance_table(baseline)

    assert table.shape == (65536,)
    assert table.dtype == np.float32
    assert (np.diff(table) >= 0).all()
    assert table[0] == 0
    assert table[65535] == MAX_REFLECTANCE


@pytest.mark.parametrize("baseline", BASELINES_WITHOUT_OFFSET)
def test_digital_numbers_of_old_baselines_are_ten_thousandths(baseline: str) -> None:
    table = build_reflectance_table(baseline)

    assert table[[1, 2500, 10000, 12740]].tolist() == np.float32([0.0001, 0.25, 1, 1.274]).tolist()


@pytest.mark.parametrize("baseline", BASELINES_WITH_OFFSET)
def test_new_baselines_lie_a_thousand_higher_and_never_below_zero(baseline: str) -> None:
    table = build_reflectance_table(baseline)

    assert table[[1, 999, 1000, 2500, 11000]].tolist() == np.float32([0, 0, 0, 0.15, 1]).tolist()


@given(
    st.integers(1, 65535 - 1000),
    st.sampled_from(BASELINES_WITHOUT_OFFSET),
    st.sampled_from(BASELINES_WITH_OFFSET),
)
def test_the_same_ground_has_the_same_reflectance_in_every_baseline(dn: int, old: str, new: str) -> None:
    assert build_reflectance_table(old)[dn] == build_reflectance_table(new)[dn + 1000]
