"""The tiles that ukis-csmask's network sees of a scene.

They lie where ukis-csmask puts them: 256 px wide, 204 px apart, the first one 51 px outside of the
raster, what is outside being mirrored. The network is not shift-invariant: moving the tiles changes the
class of 1 to 3 % of a real chip's pixels, more than any blending could mend, so the same mask takes the
same tiles. What differs is the memory: a row of tiles at a time instead of all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE_PX = 256
"""Edge of the network's input, fixed in the model file."""
OVERLAP = 0.2
"""Overlap of neighbouring tiles (ukis-csmask 1.0, ``CSmask._csm``)."""
MARGIN_PX = int(TILE_PX * OVERLAP)
"""How far the first tiles reach outside of the raster."""
STEP_PX = int(TILE_PX - TILE_PX * OVERLAP)
SHARED_PX = TILE_PX - STEP_PX
"""Rows or columns that neighbouring tiles share."""
CLASS_COUNT = 3
"""Of the network's answer: background, cloud, cloud shadow."""

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From a tile, float32 ``(1, bands, 256, 256)``, to its logits, float32 ``(1, 3, 256, 256)``."""

ReadRows = Callable[[int, int], NDArray[np.uint16]]
"""``(top, bottom)`` to digital numbers, uint16 ``(bands, bottom - top, width)``. ``top`` moves down, but
for the last row of tiles, whose mirrored pixels may begin up to ``SHARED_PX`` above the row before."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What the network says of a scene.

    ``label``  uint8 ``(height, width)``: 0 background, 1 cloud, 2 cloud shadow; undefined without data.
    ``valid``  bool of the same shape: at least one band has data, as ukis-csmask's ``nodata_value=0``.
    """

    label: NDArray[np.uint8]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TiledNetwork:
    """A network with what it expects of its input.

    ``tables`` is float32 ``(bands, 65536)``: the network's input for each band's digital number.
    ``threads`` is how many tiles are classified at a time.
    """

    network: Network
    tables: NDArray[np.float32]
    threads: int = 1

    def label_scene(self, read_rows: ReadRows, shape: tuple[int, int]) -> Labels:
        """The labels of a scene of ``shape`` (height, width), read from top to bottom.

        Tiles without a valid pixel are passed over.
        """
        height, width = shape
        labels = Labels(np.zeros(shape, np.uint8), np.zeros(shape, np.bool_))
        # ukis-csmask blends in float64; with less, equal probabilities fall to other classes than there.
        pending = np.zeros((CLASS_COUNT, TILE_PX, width))
        with ThreadPoolExecutor(self.threads) as pool:
            for top in tile_starts(height):
                rows = mirrored_indices(top, height)
                first, last = int(rows.min()), int(rows.max())
                pixels = read_rows(first, last + 1)
                valid = (pixels != 0).any(axis=0)
                self._add_tiles(pool, pixels[:, rows - first], valid[rows - first], pending)
                # Rows that no later tile reaches.
                done = slice(max(top, 0), min(top + STEP_PX, height))
                labels.valid[done] = valid[done.start - first : done.stop - first]
                blended = pending[:, done.start - top : done.stop - top].astype(np.float32)
                labels.label[done] = blended.argmax(axis=0)
                pending[:, :SHARED_PX] = pending[:, STEP_PX:]
                pending[:, SHARED_PX:] = 0
        return labels

    def _add_tiles(
        self,
        pool: ThreadPoolExecutor,
        pixels: NDArray[np.uint16],
        valid: NDArray[np.bool_],
        pending: NDArray[np.float64],
    ) -> None:
        """Add the weighted probabilities of one row of tiles, from left to right."""
        width = valid.shape[1]
        columns = {left: mirrored_indices(left, width) for left in tile_starts(width)}
        lefts = [left for left, cols in columns.items() if valid[:, cols].any()]
        for left, probability in zip(
            lefts, pool.map(lambda left: self._classify(pixels[:, :, columns[left]]), lefts), strict=True
        ):
            inside = slice(max(left, 0), min(left + TILE_PX, width))
            weighted = probability * _WEIGHTS
            pending[:, :, inside] += weighted[:, :, inside.start - left : inside.stop - left]

    def _classify(self, pixels: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Probabilities of one tile's classes, float32 ``(3, 256, 256)``."""
        tile = np.empty((1, *pixels.shape), np.float32)
        for band, table in enumerate(self.tables):
            np.take(table, pixels[band], out=tile[0, band])
        logits = self.network(tile)[0]
        exponential = np.exp(logits - logits.max(axis=0))
        probability: NDArray[np.float32] = exponential / exponential.sum(axis=0)
        return probability


def tile_starts(size: int) -> range:
    """First pixels, along one axis, of the tiles that cover ``size`` pixels."""
    return range(-MARGIN_PX, size, STEP_PX)


def mirrored_indices(start: int, size: int) -> NDArray[np.intp]:
    """Pixels of the tile that begins at ``start``, of a raster mirrored at its edges: intp ``(256,)``."""
    index = np.arange(start, start + TILE_PX) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def build_weights() -> NDArray[np.float64]:
    """Weights of a tile's pixels, float64 ``(256, 256)``: those of overlapping tiles sum to 1.

    Scipy's ``tukey(256, 2 * OVERLAP)`` along both axes, as ukis-csmask blends.
    """
    ramp = (1 - np.cos(np.pi * np.arange(SHARED_PX) / (SHARED_PX - 1))) / 2
    along = np.concatenate([ramp, np.ones(TILE_PX - 2 * SHARED_PX), ramp[::-1]])
    return np.outer(along, along)


_WEIGHTS = build_weights()
