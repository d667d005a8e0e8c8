"""The whole mask: against the scipy reference, and on small scenes whose mask is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc_cloudmask.masking.classes import CloudInputs, MaskClass, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_classes, compose_mask
from tests.masking import reference
from tests.masking.rasters import coarse_shape, draw_blobs, draw_inputs, draw_wedge

NO_DATA, CLEAR, CLOUD, SHADOW = MaskClass
WORD_WIDTHS = (63, 64, 65, 127, 128, 129, 130)
STRIP_HEIGHTS = (119, 120, 121, 512, 513, 959, 960, 961, 967, 1930)

seeds = st.integers(0, 2**32 - 1)
azimuths = st.one_of(st.floats(-360, 720), st.integers(0, 359), st.sampled_from(range(0, 360, 45)))
shapes = st.one_of(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 30), st.sampled_from(WORD_WIDTHS)),
    st.tuples(st.sampled_from(STRIP_HEIGHTS), st.integers(1, 8)),
)
parameters_strategy = st.builds(
    MaskParameters,
    cloud_probability_pct=st.sampled_from([50.0, 49.5, 0.0, 99.0]),
    shadow_distance_m=st.sampled_from([1000.0, 0.0, 99.0, 450.0, 2000.0]),
    buffer_m=st.one_of(st.just(50.0), st.floats(0, 120)),
)


def compose_by_reference(inputs, solar_azimuth_deg, parameters):
    thresholds = reference.Thresholds(
        parameters.cloud_probability_pct, parameters.shadow_distance_m, parameters.buffer_m
    )
    return reference.mask_scene(
        inputs.probability_pct, inputs.dark, inputs.coarse_probability_pct, solar_azimuth_deg, thresholds
    )


def build_inputs(cloud, dark, valid=None):
    """Inputs of clouds that fill whole 100 m pixels or none."""
    probability_pct = np.where(cloud, 90, 10).astype(np.uint8)
    if valid is not None:
        probability_pct[~valid] = 255
    return CloudInputs(probability_pct, dark, probability_pct[::5, ::5].copy())


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(shapes, seeds, azimuths, parameters_strategy)
def test_masks_equal_the_reference(shape, seed, solar_azimuth_deg, parameters):
    inputs = draw_inputs(np.random.default_rng(seed), shape)
    classes = compose_mask(inputs, solar_azimuth_deg, parameters)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, compose_by_reference(inputs, solar_azimuth_deg, parameters))


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(shapes, seeds, st.one_of(st.just(50.0), st.floats(0, 120)))
def test_classes_of_any_engine_equal_the_reference(shape, seed, buffer_m):
    rng = np.random.default_rng(seed)
    cloud, shadow = draw_blobs(rng, shape), draw_blobs(rng, shape)
    valid = draw_wedge(rng, shape)
    np.testing.assert_array_equal(
        compose_classes(cloud, shadow, valid, MaskParameters(buffer_m=buffer_m)),
        reference.mask_classes(cloud, shadow, valid, buffer_m),
    )


@pytest.mark.parametrize("height", STRIP_HEIGHTS)
@pytest.mark.parametrize("solar_azimuth_deg", [20.0, 155.0])
def test_no_seam_shows_where_strips_and_bands_meet(height, solar_azimuth_deg):
    rng = np.random.default_rng(height)
    inputs = draw_inputs(rng, (height, 33))
    classes = compose_mask(inputs, solar_azimuth_deg, MaskParameters())
    np.testing.assert_array_equal(classes, compose_by_reference(inputs, solar_azimuth_deg, MaskParameters()))


@pytest.mark.parametrize("buffer_m", [0, 9.9, 10, 14.2, 50, 77.7, 200])
def test_any_buffer_equals_the_reference(buffer_m):
    cloud = np.zeros((70, 91), np.bool_)
    cloud[30:36, 40:47] = cloud[0:3, 80:] = True
    nothing = np.zeros_like(cloud)
    np.testing.assert_array_equal(
        compose_classes(cloud, nothing, ~nothing, MaskParameters(buffer_m=buffer_m)),
        reference.mask_classes(cloud, nothing, ~nothing, buffer_m),
    )


def test_the_widest_buffer_crosses_several_bands():
    """5 x 5 pixels erode to one, which 1000 m of buffer turn into a disk of 100 pixels."""
    cloud = np.zeros((1203, 211), np.bool_)
    cloud[957:962, 103:108] = True
    nothing = np.zeros_like(cloud)
    classes = compose_classes(cloud, nothing, ~nothing, MaskParameters(buffer_m=1000))
    disk = np.pad(reference.disk(100), ((859, 143), (5, 5)))
    np.testing.assert_array_equal(classes, np.where(disk, CLOUD, CLEAR))


@pytest.mark.parametrize("solar_azimuth_deg", [25.0, 115.0, 205.0, 295.0])
@pytest.mark.parametrize("col", [0, 1, 2, 65, 128, 129, 130])
@pytest.mark.parametrize("row", [0, 1, 2, 35, 72, 73, 74])
def test_clouds_at_every_edge_and_corner(row, col, solar_azimuth_deg):
    cloud = np.zeros((77, 133), np.bool_)
    cloud[row : row + 3, col : col + 3] = True
    coarse = np.zeros(coarse_shape(cloud.shape), np.uint8)
    coarse[row // 5, col // 5] = 100
    inputs = replace(build_inputs(cloud, np.ones_like(cloud)), coarse_probability_pct=coarse)
    np.testing.assert_array_equal(
        compose_mask(inputs, solar_azimuth_deg, MaskParameters()),
        compose_by_reference(inputs, solar_azimuth_deg, MaskParameters()),
    )


@pytest.mark.parametrize(
    ("solar_azimuth_deg", "row_sign", "col_sign"), [(45, 1, -1), (135, -1, -1), (225, -1, 1), (315, 1, 1)]
)
def test_the_shadow_of_a_scene_falls_away_from_the_sun(solar_azimuth_deg, row_sign, col_sign):
    """One cloud of 100 m: along the diagonal, k steps of 100 m are round(k * 0.707) pixels each way."""
    cloud = np.zeros((105, 85), np.bool_)
    cloud[50:55, 40:45] = True
    inputs = build_inputs(cloud, np.ones_like(cloud))
    classes = compose_mask(inputs, solar_azimuth_deg, MaskParameters(buffer_m=0))
    # The erosion by 2 px leaves a block of 5 x 5 its middle, and no buffer makes it grow again.
    expected = np.full(cloud.shape, CLEAR)
    for blocks in (1, 2, 3, 4, 5, 6, 7):
        expected[52 + 5 * blocks * row_sign, 42 + 5 * blocks * col_sign] = SHADOW
    expected[52, 42] = CLOUD
    np.testing.assert_array_equal(classes, expected)


def test_cloud_has_precedence_over_shadow_within_the_buffer():
    cloud, shadow = np.zeros((30, 60), np.bool_), np.zeros((30, 60), np.bool_)
    cloud[10:20, 10:20] = True
    shadow[10:20, 20:40] = True
    row = compose_classes(cloud, shadow, np.ones_like(cloud), MaskParameters())[15].tolist()
    # Raw: cloud 10..19, shadow 20..39; both lose 2 pixels and grow by 5; cloud reaches 5 beyond its raw edge.
    assert row == [CLEAR] * 7 + [CLOUD] * 18 + [SHADOW] * 18 + [CLEAR] * 17


def test_a_pixel_of_both_is_cloud():
    both = np.zeros((15, 20), np.bool_)
    both[5:10, 5:12] = True
    classes = compose_classes(both, both, np.ones_like(both), MaskParameters())
    assert set(np.unique(classes)) == {CLEAR, CLOUD}


def test_a_shadow_grows_into_the_buffer_of_a_cloud_that_the_erosion_removed():
    """Whether a pixel is masked is the tutorial's word; its class looks at the raw cloud."""
    cloud, shadow = np.zeros((21, 40), np.bool_), np.zeros((21, 40), np.bool_)
    shadow[8:13, 10:20] = True
    cloud[10, 22] = True
    classes = compose_classes(cloud, shadow, np.ones_like(cloud), MaskParameters())
    assert classes[10, 22] == CLOUD
    assert classes[10, 16] == SHADOW
    assert classes[10, 27] == CLEAR


def test_specks_go_and_their_ground_is_clear():
    cloud = np.zeros((12, 17), np.bool_)
    cloud[3, 3] = cloud[6:8, 8:14] = True
    classes = compose_classes(cloud, np.zeros_like(cloud), np.ones_like(cloud), MaskParameters())
    assert (classes == CLEAR).all()


def test_the_edge_of_the_grid_and_of_the_data_erodes_nothing():
    valid = np.ones((9, 12), np.bool_)
    valid[:, 6:] = False
    cloud = np.ones_like(valid)
    classes = compose_classes(cloud, np.zeros_like(cloud), valid, MaskParameters(buffer_m=0))
    np.testing.assert_array_equal(classes, np.where(valid, CLOUD, NO_DATA))


@pytest.mark.parametrize("first_col", [0, 30])
def test_a_sliver_of_cloud_at_the_edge_survives_beyond_it_and_grows_back(first_col):
    """At the grid's edge and at that of the data. Inside, a cloud so thin is eroded away.

    Two pixels outside, the disk of the erosion holds one pixel with data, and where that is cloud the
    eroded mask is set. From there it grows by five pixels.
    """
    cloud, valid = np.zeros((40, 70), np.bool_), np.ones((40, 70), np.bool_)
    valid[:, :first_col] = False
    cloud[17:20, first_col] = cloud[5:8, 60] = True
    rows, cols = np.indices(cloud.shape)
    masked = np.zeros_like(cloud)
    for row in (17, 18, 19):
        masked |= np.hypot(rows - row, cols - (first_col - 2)) <= 5
    classes = compose_classes(cloud, np.zeros_like(cloud), valid, MaskParameters())
    np.testing.assert_array_equal(classes, np.where(valid, np.where(masked, CLOUD, CLEAR), NO_DATA))


def test_the_mask_grows_across_a_gap_without_data_but_not_into_it():
    valid = np.ones((9, 20), np.bool_)
    valid[:, 8:10] = False
    cloud = np.zeros_like(valid)
    cloud[:, :8] = True
    classes = compose_classes(cloud, np.zeros_like(cloud), valid, MaskParameters())
    assert classes[4].tolist() == [CLOUD] * 8 + [NO_DATA] * 2 + [CLOUD] * 3 + [CLEAR] * 7


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (5, 7), (961, 3)])
@pytest.mark.parametrize(
    ("value", "expected"), [(0, CLEAR), (50, CLEAR), (51, CLOUD), (100, CLOUD), (255, NO_DATA)]
)
def test_uniform_scenes(shape, value, expected):
    inputs = CloudInputs(
        np.full(shape, value, np.uint8),
        np.ones(shape, np.bool_),
        np.full(coarse_shape(shape), value, np.uint8),
    )
    assert (compose_mask(inputs, 140, MaskParameters()) == expected).all()


def test_a_scene_without_rows_or_columns_has_no_mask():
    for shape in ((0, 7), (7, 0)):
        nothing = np.zeros(shape, np.bool_)
        assert compose_classes(nothing, nothing, nothing, MaskParameters()).shape == shape


@settings(deadline=None, max_examples=30)
@given(seeds, azimuths, st.integers(0, 12), st.integers(0, 12))
def test_a_window_with_its_surroundings_equals_the_whole(seed, solar_azimuth_deg, top, left):
    """Shadows reach 10 coarse pixels, erosion and dilation 2 + 5 fine ones: 12 coarse pixels around."""
    whole = draw_inputs(np.random.default_rng(seed), (180, 190))
    margin, fine = 12, 5
    fine_rows, fine_cols = slice(top * fine, 180), slice(left * fine, 190)
    part = CloudInputs(
        whole.probability_pct[fine_rows, fine_cols],
        whole.dark[fine_rows, fine_cols],
        whole.coarse_probability_pct[top:, left:],
    )
    of_whole = compose_mask(whole, solar_azimuth_deg, MaskParameters())[fine_rows, fine_cols]
    of_part = compose_mask(part, solar_azimuth_deg, MaskParameters())
    inner = slice(margin * fine, None)
    np.testing.assert_array_equal(of_part[inner, inner], of_whole[inner, inner])


def test_the_inputs_stay_as_they_are():
    inputs = draw_inputs(np.random.default_rng(3), (40, 53))
    arrays = (inputs.probability_pct, inputs.dark, inputs.coarse_probability_pct)
    for array in arrays:
        array.flags.writeable = False
    copies = [array.copy() for array in arrays]
    compose_mask(inputs, 140, MaskParameters())
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_other_pixel_sizes_keep_distances_on_the_ground():
    """At 10 m a coarse pixel is 10 pixels wide, the erosion 4 px, the dilation 10 px."""
    cloud = np.zeros((60, 80), np.bool_)
    cloud[20:30, 40:50] = True
    probability_pct = np.where(cloud, 90, 10).astype(np.uint8)
    inputs = CloudInputs(probability_pct, np.zeros_like(cloud), probability_pct[::10, ::10].copy())
    classes = compose_mask(inputs, 140, MaskParameters(), pixel_size_m=10)
    expected = reference.Image(cloud, np.ones_like(cloud)).focal_min(4).focal_max(10).values
    np.testing.assert_array_equal(classes == CLOUD, expected)


def test_inputs_that_do_not_belong_together_are_refused():
    inputs = draw_inputs(np.random.default_rng(0), (20, 31))
    with pytest.raises(ValueError, match="dark"):
        compose_mask(replace(inputs, dark=inputs.dark.T), 140, MaskParameters())
    coarse = inputs.coarse_probability_pct
    with pytest.raises(ValueError, match="coarse"):
        compose_mask(replace(inputs, coarse_probability_pct=coarse.T), 140, MaskParameters())
    with pytest.raises(ValueError, match="whole number"):
        compose_mask(inputs, 140, MaskParameters(), pixel_size_m=30)
    with pytest.raises(ValueError, match="differ in shape"):
        compose_classes(inputs.dark, inputs.dark, inputs.dark.T, MaskParameters())
