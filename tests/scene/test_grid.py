"""Grids, their windows and their blocks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pc_cloudmask.scene.grid import Affine, Grid, Window

sizes = st.integers(1, 40)
windows = st.builds(Window, st.integers(0, 30), st.integers(0, 30), sizes, sizes)
whole_metres = st.integers(-1000, 1000).map(float)
affines = st.tuples(*[whole_metres] * 6)


def count_covers(parts: Iterable[Window], shape: tuple[int, int]) -> NDArray[np.int_]:
    """By how many windows each pixel is covered."""
    covers = np.zeros(shape, int)
    for part in parts:
        assert covers[part.slices].shape == part.shape, "a window reaches beyond the grid"
        covers[part.slices] += 1
    return covers


def locate(transform: Affine, row: int, col: int) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return (a * col + b * row + c, d * col + e * row + f)


@given(windows)
def test_the_parts_of_a_window_cover_it_exactly(window: Window) -> None:
    parts = window.split()
    expected = np.zeros((80, 80), int)
    expected[window.slices] = 1
    assert np.array_equal(count_covers(parts, (80, 80)), expected)
    assert all(part.height and part.width for part in parts)
    assert max(part.height for part in parts) == (window.height + 1) // 2
    assert max(part.width for part in parts) == (window.width + 1) // 2


@given(sizes, sizes, sizes, st.none() | sizes)
def test_blocks_cover_a_grid_exactly(rows: int, cols: int, height: int, width: int | None) -> None:
    grid = Grid("EPSG:32722", (20.0, 0.0, 0.0, 0.0, -20.0, 0.0), (rows, cols))
    blocks = list(grid.blocks(height, width))
    assert (count_covers(blocks, grid.shape) == 1).all()
    assert all(block.height <= height and block.width <= (width or height) for block in blocks)
    assert len(blocks) == -(-rows // height) * -(-cols // (width or height))
    assert blocks == sorted(blocks, key=lambda block: (block.row, block.col))


@given(affines, windows, st.integers(0, 50), st.integers(0, 50))
def test_the_pixels_of_a_window_stay_where_they_are(
    transform: Affine, window: Window, row: int, col: int
) -> None:
    part = Grid("EPSG:32722", transform, (80, 80)).window_grid(window)
    assert (part.crs, part.shape) == ("EPSG:32722", (window.height, window.width))
    assert locate(part.transform, row, col) == locate(transform, window.row + row, window.col + col)


@pytest.mark.parametrize(
    ("pixel_size_m", "shape"), [(20, (5, 7)), (10, (10, 14)), (60, (2, 3)), (100, (1, 2))]
)
def test_other_pixels_cover_the_grid_from_the_same_corner(
    pixel_size_m: float, shape: tuple[int, int]
) -> None:
    grid = Grid("EPSG:32722", (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0), (5, 7))
    other = grid.at_pixel_size(pixel_size_m)
    assert (other.pixel_size_m, other.shape) == (pixel_size_m, shape)
    west, south, east, north = other.bounds
    assert (west, north) == (600_000, 7_500_040)
    assert south == north - shape[0] * pixel_size_m <= grid.bounds[1] == 7_499_940
    assert east == west + shape[1] * pixel_size_m >= grid.bounds[2] == 600_140
