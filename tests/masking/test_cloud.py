"""Thresholds: strict, and exact at their edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.clouds_and_shadows import find_cloud, find_dark

LAND, WATER = 4, 6


def test_cloud_is_strictly_above_the_threshold():
    probability_pct = np.array([[0, 49, 50], [51, 100, 255]], np.uint8)
    assert find_cloud(probability_pct, 50).tolist() == [[False, False, False], [True, True, False]]


@given(st.floats(0, 100))
def test_fractional_thresholds_mean_what_they_say(threshold_pct):
    probability_pct = np.arange(101, dtype=np.uint8)[None]
    expected = [[value > threshold_pct for value in range(101)]]
    assert find_cloud(probability_pct, threshold_pct).tolist() == expected


@pytest.mark.parametrize("threshold_pct", [0, 50, 99.5, 100])
def test_no_data_is_never_cloud(threshold_pct):
    assert not find_cloud(np.full((2, 3), 255, np.uint8), threshold_pct).any()


@pytest.mark.parametrize(("offset_dn", "edge_dn"), [(0, 1500), (-1000, 2500)])
def test_dark_is_strictly_below_the_threshold(offset_dn, edge_dn):
    nir_dn = np.array([[0, edge_dn - 1, edge_dn], [edge_dn + 1, 65535, 1]], np.uint16)
    dark = find_dark(nir_dn, np.full(nir_dn.shape, LAND, np.uint8), 0.15, offset_dn)
    assert dark.tolist() == [[True, True, False], [False, False, True]]


def test_water_is_never_dark():
    scl = np.array([[LAND, WATER, 0]], np.uint8)
    assert find_dark(np.zeros((1, 3), np.uint16), scl, 0.15).tolist() == [[True, False, True]]


@pytest.mark.parametrize("hundredths", range(101))
def test_dark_has_no_float_noise_at_its_edge(hundredths):
    edge_dn = hundredths * 100
    nir_dn = np.array([[max(edge_dn - 1, 0), edge_dn]], np.uint16)
    dark = find_dark(nir_dn, np.full((1, 2), LAND, np.uint8), hundredths / 100)
    assert dark.tolist() == [[edge_dn > 0, False]]


@pytest.mark.parametrize(("reflectance", "offset_dn", "expected"), [(1.0, -60_000, True), (0.0, 1000, False)])
def test_a_threshold_beyond_the_type_is_no_error(reflectance, offset_dn, expected):
    nir_dn = np.array([[0, 65535]], np.uint16)
    dark = find_dark(nir_dn, np.full((1, 2), LAND, np.uint8), reflectance, offset_dn)
    assert dark.tolist() == [[expected, expected]]


def test_water_is_left_out_in_every_row_of_a_tall_scene():
    scl = np.full((300, 2), LAND, np.uint8)
    scl[[0, 127, 128, 255, 299], 1] = WATER
    dark = find_dark(np.zeros(scl.shape, np.uint16), scl, 0.15)
    np.testing.assert_array_equal(dark, scl == LAND)
