"""Blocks of pixels that fit one request."""

from __future__ import annotations

from flows.scene.grid import Grid, Window

REQUEST_LIMIT_BYTES = 50_331_648
"""``computePixels`` answers with at most 48 MB of uncompressed pixels."""
BYTES_PER_PIXEL = 2
"""A byte of data and the byte of mask that Earth Engine counts beside it."""
WINDOW_BYTES = REQUEST_LIMIT_BYTES // 2
"""What a window is planned for: three for a tile, so that a scene's requests overlap in time."""
LONGEST_SIDE = 32_768
"""Pixels a side that ``computePixels`` allows."""
ROW_STEP = 512
"""Windows end on multiples of this, the block height of the mask's COG."""
FLOOR_PIXELS = 128
"""Windows of this side or less are not split further: half of Earth Engine's own 256 pixel tiles."""


def plan_windows(grid: Grid, window_bytes: int = WINDOW_BYTES) -> list[Window]:
    """Windows that cover ``grid`` exactly, each of at most ``window_bytes`` as Earth Engine counts them.

    Full rows where they fit, in multiples of ``ROW_STEP``; narrower blocks on very wide grids.
    """
    width = min(grid.shape[1], LONGEST_SIDE, max(1, window_bytes // (BYTES_PER_PIXEL * ROW_STEP)))
    rows = window_bytes // (BYTES_PER_PIXEL * width)
    return list(grid.blocks(min(LONGEST_SIDE, max(1, rows // ROW_STEP) * ROW_STEP), width))


def split_window(window: Window, floor_pixels: int = FLOOR_PIXELS) -> list[Window]:
    """Up to four windows that cover ``window``, or none where it must not be made smaller."""
    if max(window.shape) <= floor_pixels:
        return []
    return window.split()
