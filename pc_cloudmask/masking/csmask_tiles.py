"""Asking ukis-csmask's network about a scene, tile by tile, as ukis-csmask itself does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Edge of the network's input, fixed in the model file.
TILE_PX = 256
#: Overlap of neighbouring tiles (ukis-csmask 1.0, ``CSmask._csm``).
OVERLAP = 0.2
#: How far the first tiles reach outside of the raster.
MARGIN_PX = int(TILE_PX * OVERLAP)
STEP_PX = int(TILE_PX - TILE_PX * OVERLAP)
#: Rows or columns that neighbouring tiles share.
SHARED_PX = TILE_PX - STEP_PX
#: Of the network's answer: background, cloud, cloud shadow.
CLASS_COUNT = 3
#: From a tile, float32 ``(1, bands, 256, 256)``, to its logits, float32 ``(1, 3, 256, 256)``.
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
#: ``(top, bottom)`` to digital numbers, uint16 ``(bands, bottom - top, width)``. ``top`` moves down, but for
#: the last row of tiles, whose mirrored pixels may begin up to ``SHARED_PX`` above the row before.
ReadRows = Callable[[int, int], NDArray[np.uint16]]


@dataclass(frozen=True, slots=True)
class Labels:
    """A scene as the network labels it.

    ``label``  uint8 ``(height, width)``: 0 background, 1 cloud, 2 cloud shadow; undefined without data.
    ``valid``  bool of the same shape: at least one band has data, as ukis-csmask's ``nodata_value=0``.
    """

    label: NDArray[np.uint8]
    valid: NDArray[np.bool_]


def coarsen_rows(read_rows: ReadRows, shape: tuple[int, int]) -> tuple[ReadRows, tuple[int, int]]:
    """Return what reads rows of pixels half as large again, and their shape, from rows of a raster of ``shape``.

    Three pixels become two, along both axes, each the mean of what it covers of them and has data, rounded. ``top``
    of what is read moves as that of what is asked.
    """
    height, width = shape
    coarse_shape = (-(-2 * height // 3), -(-2 * width // 3))

    def read_coarse(top: int, bottom: int) -> NDArray[np.uint16]:
        first, last = top // 2, -(-bottom // 2)
        fine = read_rows(3 * first, min(3 * last, height))
        lacking = ((0, 0), (0, 3 * (last - first) - fine.shape[1]), (0, -width % 3))
        coarse = np.stack([_average_pixels(np.pad(band, lacking[1:])) for band in fine])
        start = top - 2 * first
        return coarse[:, start : start + bottom - top, : coarse_shape[1]]

    return read_coarse, coarse_shape


def _average_pixels(fine: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the means of the pixels with data, uint16 ``(2 * h, 2 * w)``, of ``fine``, ``(3 * h, 3 * w)``."""
    weight = _add_thirds((fine != 0).astype(np.uint32))
    total = _add_thirds(fine.astype(np.uint32))
    return ((total + weight // 2) // np.maximum(weight, 1)).astype(np.uint16)


def _add_thirds(fine: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return nine times what each coarse pixel covers of ``fine``."""
    for _ in range(2):
        pairs = np.empty((2 * len(fine) // 3, fine.shape[1]), np.uint32)
        pairs[0::2] = 2 * fine[0::3] + fine[1::3]
        pairs[1::2] = fine[1::3] + 2 * fine[2::3]
        fine = pairs.T
    return fine


def refine_label(coarse: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the label, on a raster of ``shape``, of the coarse pixel that holds each pixel's centre."""
    rows, cols = ((2 * np.arange(size) + 1) // 3 for size in shape)
    return coarse[rows][:, cols]


def label_scene(
    network: Network, tables: NDArray[np.float32], read_rows: ReadRows, shape: tuple[int, int]
) -> Labels:
    """Label a scene of ``shape`` (height, width), read from top to bottom.

    ``tables`` is float32 ``(bands, 65536)``: the network's input for each band's digital number. Tiles without a
    valid pixel are passed over.
    """
    height, width = shape
    labels = Labels(np.zeros(shape, np.uint8), np.zeros(shape, np.bool_))
    # ukis-csmask blends in float64; with less, equal probabilities fall to other classes than there.
    pending = np.zeros((CLASS_COUNT, TILE_PX, width))
    for top in tile_starts(height):
        rows = mirrored_indices(top, height)
        first, last = int(rows.min()), int(rows.max())
        pixels = read_rows(first, last + 1)
        valid = (pixels != 0).any(axis=0)
        row_pixels, row_valid = pixels[:, rows - first], valid[rows - first]
        for left in tile_starts(width):
            columns = mirrored_indices(left, width)
            if row_valid[:, columns].any():
                inside = slice(max(left, 0), min(left + TILE_PX, width))
                weighted = _classify(network, tables, row_pixels[:, :, columns]) * _WEIGHTS
                pending[:, :, inside] += weighted[:, :, inside.start - left : inside.stop - left]
        # Rows that no later tile reaches.
        done = slice(max(top, 0), min(top + STEP_PX, height))
        labels.valid[done] = valid[done.start - first : done.stop - first]
        blended = pending[:, done.start - top : done.stop - top].astype(np.float32)
        labels.label[done] = blended.argmax(axis=0)
        pending[:, :SHARED_PX] = pending[:, STEP_PX:]
        pending[:, SHARED_PX:] = 0
    return labels


def _classify(
    network: Network, tables: NDArray[np.float32], pixels: NDArray[np.uint16]
) -> NDArray[np.float32]:
    """Return the probabilities of one tile's classes, float32 ``(3, 256, 256)``."""
    tile = np.stack([table[band] for table, band in zip(tables, pixels, strict=True)])
    logits = network(tile[np.newaxis])[0]
    exponential = np.exp(logits - logits.max(axis=0))
    probability: NDArray[np.float32] = exponential / exponential.sum(axis=0)
    return probability


def tile_starts(size: int) -> range:
    """Return the first pixels, along one axis, of the tiles that cover ``size`` pixels."""
    return range(-MARGIN_PX, size, STEP_PX)


def mirrored_indices(start: int, size: int) -> NDArray[np.intp]:
    """Return the pixels of the tile that begins at ``start``, of a raster mirrored at its edges: intp ``(256,)``."""
    index = np.arange(start, start + TILE_PX) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def build_weights() -> NDArray[np.float64]:
    """Return the weights of a tile's pixels, float64 ``(256, 256)``: those of overlapping tiles sum to 1.

    Scipy's ``tukey(256, 2 * OVERLAP)`` along both axes, as ukis-csmask blends.
    """
    ramp = (1 - np.cos(np.pi * np.arange(SHARED_PX) / (SHARED_PX - 1))) / 2
    along = np.concatenate([ramp, np.ones(TILE_PX - 2 * SHARED_PX), ramp[::-1]])
    return np.outer(along, along)


_WEIGHTS = build_weights()
