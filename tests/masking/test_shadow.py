"""Shadow candidates: their direction, their reach, their symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.masking.clouds_and_shadows import find_shadow_candidates, sun_steps
from tests.masking import reference

NORTH_NORTH_EAST = """
    ......C..
    .....#...
    .....#...
    ....#....
"""
SOUTH_SOUTH_EAST = """
    ....#....
    .....#...
    .....#...
    ......C..
"""
SOUTH_SOUTH_WEST = """
    ....#....
    ...#.....
    ...#.....
    ..C......
"""
NORTH_NORTH_WEST = """
    ..C......
    ...#.....
    ...#.....
    ....#....
"""
EAST_NORTH_EAST = """
    ......C
    ....##.
    ...#...
    .......
"""
WEST_SOUTH_WEST = """
    .......
    ...#...
    .##....
    C......
"""


def read_picture(picture: str) -> np.ndarray:
    return np.array([list(line.strip()) for line in picture.split()])


@pytest.mark.parametrize(
    ("solar_azimuth_deg", "picture"),
    [
        (30, NORTH_NORTH_EAST),
        (150, SOUTH_SOUTH_EAST),
        (210, SOUTH_SOUTH_WEST),
        (330, NORTH_NORTH_WEST),
        (60, EAST_NORTH_EAST),
        (240, WEST_SOUTH_WEST),
    ],
    ids=["nne", "sse", "ssw", "nnw", "ene", "wsw"],
)
def test_a_shadow_falls_away_from_the_sun(solar_azimuth_deg, picture):
    """North is up, the azimuth says where the sun is; mirrored or turned, every picture differs."""
    pixels = read_picture(picture)
    candidates = find_shadow_candidates(pixels == "C", solar_azimuth_deg, 3)
    np.testing.assert_array_equal(candidates, pixels != ".")


@pytest.mark.parametrize(
    ("solar_azimuth_deg", "row", "col"), [(0, 1, 0), (90, 0, -1), (180, -1, 0), (270, 0, 1)]
)
def test_along_an_axis_a_shadow_has_the_whole_reach(solar_azimuth_deg, row, col):
    cloud = np.zeros((25, 31), np.bool_)
    cloud[12, 15] = True
    candidates = find_shadow_candidates(cloud, solar_azimuth_deg, 10)
    expected = [[12 + k * row, 15 + k * col] for k in range(11)]
    assert np.argwhere(candidates).tolist() == sorted(expected)


@pytest.mark.parametrize(("reach_px", "pixels"), [(0, 1), (0.9, 1), (1, 2), (9.99, 10), (10, 11)])
def test_reach_is_rounded_down_and_a_cloud_is_its_own_candidate(reach_px, pixels):
    cloud = np.zeros((1, 20), np.bool_)
    cloud[0, 0] = True
    candidates = find_shadow_candidates(cloud, 270, reach_px)
    assert candidates[0].tolist() == [True] * pixels + [False] * (20 - pixels)


@pytest.mark.parametrize("quadrant", [90, 180, 270])
@pytest.mark.parametrize("solar_azimuth_deg", [0, 14.5, 30, 45, 60, 75.5])
def test_all_quadrants_round_alike(solar_azimuth_deg, quadrant):
    """At 30 and 60 degrees every other step is a tie, which float noise would break at random."""
    turned = sun_steps(solar_azimuth_deg, 40)
    for _ in range(quadrant // 90):
        turned = [(col, -row) for row, col in turned]
    assert sun_steps(solar_azimuth_deg + quadrant, 40) == turned


@given(st.integers(0, 359), st.integers(-5, 5))
def test_azimuths_come_round(solar_azimuth_deg, turns):
    assert sun_steps(solar_azimuth_deg + 360 * turns, 10) == sun_steps(solar_azimuth_deg, 10)


@pytest.mark.parametrize("first_deg", range(0, 360, 45))
def test_every_degree_equals_the_reference(first_deg):
    cloud = np.random.default_rng(first_deg).random((13, 29)) < 0.02
    cloud[0, 0] = cloud[12, 28] = cloud[0, 14] = True
    for solar_azimuth_deg in range(first_deg, first_deg + 45):
        np.testing.assert_array_equal(
            find_shadow_candidates(cloud, solar_azimuth_deg, 10),
            reference.project_shadows(cloud, solar_azimuth_deg, 10),
            err_msg=f"azimuth {solar_azimuth_deg}",
        )


@given(
    st.tuples(st.integers(1, 15), st.integers(1, 15)),
    st.floats(-720, 720),
    st.floats(0, 25),
    st.integers(0, 2**32 - 1),
)
def test_any_azimuth_and_reach_equal_the_reference(shape, solar_azimuth_deg, reach_px, seed):
    cloud = np.random.default_rng(seed).random(shape) < 0.1
    np.testing.assert_array_equal(
        find_shadow_candidates(cloud, solar_azimuth_deg, reach_px),
        reference.project_shadows(cloud, solar_azimuth_deg, reach_px),
    )


@pytest.mark.parametrize("solar_azimuth_deg", [float("nan"), float("inf")])
def test_an_azimuth_must_be_finite(solar_azimuth_deg):
    with pytest.raises(ValueError, match="no direction"):
        find_shadow_candidates(np.zeros((1, 1), np.bool_), solar_azimuth_deg, 10)
