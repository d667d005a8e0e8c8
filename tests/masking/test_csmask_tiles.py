"""The tiling against ukis-csmask's own, with networks that cost nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal.windows import tukey
from ukis_csmask.utils import tile_array, untile_array

from pc_cloudmask.masking.csmask import (
    CLASS_COUNT,
    MARGIN_PX,
    OVERLAP,
    STEP_PX,
    TILE_PX,
    build_weights,
    coarsen_rows,
    label_scene,
    mirrored_indices,
    refine_label,
    tile_starts,
)

BANDS = 6
IDENTITY = np.tile(np.arange(65536, dtype=np.float32), (BANDS, 1)) / 10_000
SHAPES = [(256, 256), (300, 517), (205, 613), (619, 204), (40, 700), (1, 1), (461, 257)]


def random_pixels(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(1, 10_000, (BANDS, *shape), np.uint16)


def pointwise(tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """A network that looks at nothing but the pixel: seams cannot excuse a wrong label."""
    return tile[:, :CLASS_COUNT] - tile[:, CLASS_COUNT:]


def tile_dependent(tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """A network that depends on the place in the tile, its content as a whole and the pixel."""
    place = np.linspace(-1, 1, TILE_PX, dtype=np.float32)
    whole = tile.mean(axis=(2, 3), keepdims=True)
    logits = tile[:, :CLASS_COUNT] * 2 + whole[:, CLASS_COUNT:] * 3
    logits[:, 0] += place
    logits[:, 1] += place[:, np.newaxis] * 2
    return logits


def label(network, pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return label_scene(network, IDENTITY, lambda top, bottom: pixels[:, top:bottom], pixels.shape[1:])


def label_as_ukis_csmask(network, pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """``CSmask._csm`` in its own order, all tiles at once."""
    image = np.moveaxis(np.stack([IDENTITY[i][band] for i, band in enumerate(pixels)]), 0, -1)
    tiles = np.moveaxis(tile_array(image, TILE_PX, TILE_PX, OVERLAP), -1, 1)
    logits = np.concatenate([network(np.ascontiguousarray(tile[np.newaxis])) for tile in tiles])
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = np.moveaxis(exponential / exponential.sum(axis=1, keepdims=True), 1, -1)
    blended = untile_array(probability, (*pixels.shape[1:], CLASS_COUNT), OVERLAP, smooth_blending=True)
    return blended.argmax(axis=2).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_are_those_of_ukis_csmask_own_tiling(shape: tuple[int, int]) -> None:
    pixels = random_pixels(shape)

    found = label(tile_dependent, pixels)

    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, label_as_ukis_csmask(tile_dependent, pixels))


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 9))
@settings(max_examples=15)
def test_no_seam_shows_where_the_network_looks_at_the_pixel_alone(height: int, width: int, seed: int) -> None:
    pixels = random_pixels((height, width), seed)
    logits = pixels[:CLASS_COUNT].astype(int) - pixels[CLASS_COUNT:]
    best = np.sort(logits, axis=0)
    decided = best[-1] - best[-2] > 1  # closer ones are float32's to decide

    found = label(pointwise, pixels)

    np.testing.assert_array_equal(found[decided], logits.argmax(axis=0)[decided])


def test_a_scene_without_data_asks_the_network_nothing() -> None:
    def refuse(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError("asked for a tile without data")

    label(refuse, np.zeros((BANDS, 300, 410), np.uint16))


def test_tiles_without_data_are_passed_over_and_nothing_else_changes() -> None:
    pixels = random_pixels((900, 1100))
    pixels[:, :, 500:] = 0
    asked = []

    def count(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(tile)
        return tile_dependent(tile)

    found = label(count, pixels)

    assert len(asked) == len(tile_starts(900)) * len(tile_starts(500))
    expected = label_as_ukis_csmask(tile_dependent, pixels)
    np.testing.assert_array_equal(found[:, :500], expected[:, :500])


@pytest.mark.parametrize("size", [1, 50, 204, 205, 255, 256, 257, 5490])
def test_tiles_cover_every_pixel(size: int) -> None:
    starts = tile_starts(size)

    assert starts[0] == -MARGIN_PX
    assert starts[-1] < size <= starts[-1] + STEP_PX
    for start in starts:
        padded = np.pad(np.arange(size), (MARGIN_PX, 2 * TILE_PX), mode="symmetric")
        expected = padded[start + MARGIN_PX : start + MARGIN_PX + TILE_PX]
        np.testing.assert_array_equal(mirrored_indices(start, size), expected)


def test_a_full_scene_has_as_many_tiles_as_ukis_csmask_makes() -> None:
    assert len(tile_starts(5490)) ** 2 == 784


def test_weights_are_scipys_tukey_window() -> None:
    along = tukey(TILE_PX, 2 * OVERLAP)

    np.testing.assert_allclose(build_weights(), np.outer(along, along), atol=1e-14)


@pytest.mark.parametrize("shape", [(30, 45), (31, 44), (32, 46), (1, 1), (2, 3), (700, 5)])
def test_coarse_pixels_are_the_means_of_what_has_data(shape: tuple[int, int]) -> None:
    """Each pixel of 20 m is four of 10 m, of which nine make one of 30 m."""
    pixels = random_pixels(shape)
    pixels[:, np.random.default_rng(3).random(shape) < 0.3] = 0
    read_rows, (height, width) = coarsen_rows(lambda top, bottom: pixels[:, top:bottom], shape)
    fine = pixels.repeat(2, axis=1).repeat(2, axis=2).astype(float)
    padded = np.pad(fine, ((0, 0), (0, 3 * height - fine.shape[1]), (0, 3 * width - fine.shape[2])))
    blocks = padded.reshape(BANDS, height, 3, width, 3)
    counts = (blocks > 0).sum(axis=(2, 4))
    expected = np.floor(blocks.sum(axis=(2, 4)) / np.maximum(counts, 1) + 0.5)

    found = read_rows(0, height)

    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, expected)
    for top, bottom in [(0, 1), (height // 2, height), (height // 3, 2 * height // 3 + 1)]:
        np.testing.assert_array_equal(read_rows(top, bottom), found[:, top:bottom])


@pytest.mark.parametrize("shape", [(30, 45), (31, 44), (1, 2)])
def test_a_fine_pixel_takes_the_label_at_its_centre(shape: tuple[int, int]) -> None:
    coarse = np.random.default_rng(4).integers(0, 3, [-(-2 * size // 3) for size in shape], np.uint8)
    rows, cols = (((np.arange(size) + 0.5) * 20 / 30).astype(int) for size in shape)
    np.testing.assert_array_equal(refine_label(coarse, shape), coarse[np.ix_(rows, cols)])
