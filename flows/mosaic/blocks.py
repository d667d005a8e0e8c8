"""A mosaic's grid in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flows.mosaic.observation import Observation
from flows.mosaic.target import Bounds, bounds_overlap, find_bounds
from flows.scene.grid import Grid, Window

LARGEST_PX, SMALLEST_PX = 1024, 64
"""Edges of a block. Larger ones save nothing: assets are stored in blocks of 512."""
MEMORY_BYTES = 384 << 20
"""What the observations of a block may take at once, however many there are."""
BYTES_PER_VALUE = 6
"""Of one observation of one pixel: its value, 2, with three flags of 1 and one more while it is read."""


@dataclass(frozen=True, slots=True)
class Block:
    """A window of the mosaic, and the observations whose grids reach into it."""

    window: Window
    observations: tuple[Observation, ...]


def plan_blocks(
    grid: Grid, observations: Sequence[Observation], memory_bytes: int = MEMORY_BYTES
) -> list[Block]:
    """Blocks that cover all of ``grid`` that any observation reaches; each observation in its order.

    The more observations reach into a block, the smaller it is: memory does not grow with the time span.
    """
    grids = dict.fromkeys(observation.scene.grid for observation in observations)
    bounds = {each: find_bounds(each, grid.crs) for each in grids}
    return [
        block
        for window in grid.blocks(LARGEST_PX)
        for block in _plan_window(grid, window, observations, bounds, memory_bytes)
    ]


def _plan_window(
    grid: Grid,
    window: Window,
    observations: Sequence[Observation],
    bounds: Mapping[Grid, Bounds],
    memory_bytes: int,
) -> Iterator[Block]:
    extent = grid.window_grid(window).bounds
    reaching = tuple(each for each in observations if bounds_overlap(bounds[each.scene.grid], extent))
    size = len(reaching) * window.height * window.width * BYTES_PER_VALUE
    if not reaching:
        return
    if size <= memory_bytes or max(window.shape) <= SMALLEST_PX:
        yield Block(window, reaching)
        return
    for part in _halve(window):
        yield from _plan_window(grid, part, reaching, bounds, memory_bytes)


def _halve(window: Window) -> tuple[Window, Window]:
    """Both halves across the longer edge: quarters would be twice too small as often as not."""
    row, col, height, width = window.row, window.col, window.height, window.width
    if height >= width:
        half = height // 2
        return Window(row, col, half, width), Window(row + half, col, height - half, width)
    half = width // 2
    return Window(row, col, height, half), Window(row, col + half, height, width - half)
