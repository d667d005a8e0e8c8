"""Pictures of masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flows.masking.classes import CLASS_STYLES, MaskClass
from flows.rendering.png import ColourType, join_png
from flows.scene.grid import Shape

_SHOWN_SHARE = 8
"""A cell is drawn masked where an eighth of it is: at the usual reduction of 11 x 11 pixels even the
smallest cloud there can be, one disk of five pixels' radius cut by four cells, keeps a cell."""

_BIT_DEPTH = 2
_FILTER_NONE = 0
_ONE = np.uint8(1)


def build_preview(classes: NDArray[np.uint8], size_px: int = 512) -> tuple[bytes, Shape]:
    """A PNG of a mask in its classes' colours, at most ``size_px`` on its longer edge.

    Clear and no-data pixels are transparent, so that it lies over a map or a picture of the scene.
    ``classes`` is uint8 ``(height, width)`` of ``MaskClass``.

    Returns:
        The PNG, the same bytes every time, with its shape.
    """
    reduced = reduce_classes(classes, -(-max(classes.shape) // size_px))
    return encode_png(reduced), reduced.shape


def encode_png(classes: NDArray[np.uint8]) -> bytes:
    """``classes`` as a PNG of two bits a pixel with a palette of colours and opacities."""
    height, width = classes.shape
    rows = np.zeros((height, -(-width // 4) * 4), np.uint8)
    rows[:, :width] = classes
    packed = rows[:, 0::4] << 6 | rows[:, 1::4] << 4 | rows[:, 2::4] << 2 | rows[:, 3::4]
    scanlines = np.insert(packed, 0, _FILTER_NONE, axis=1).tobytes()
    styles = [CLASS_STYLES[value] for value in sorted(CLASS_STYLES)]
    colours = {
        b"PLTE": b"".join(bytes(style.color) for style in styles),
        b"tRNS": bytes(255 * style.opaque for style in styles),
    }
    return join_png(classes.shape, _BIT_DEPTH, ColourType.PALETTE, scanlines, colours)


def reduce_classes(classes: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The classes of cells of ``factor`` x ``factor`` pixels (fewer at the lower and right edge).

    Cloud or shadow, whichever has more of the cell, where they have at least an eighth of it; else
    what the cell's first pixel says of data.
    """
    if factor == 1:
        return classes
    # Cloud and shadow are the classes with the higher bit; shadow alone has both. Bits are three times
    # as fast as comparisons.
    masked = _count_cells(classes, factor, lambda rows: rows >> _ONE)
    shadow = _count_cells(classes, factor, lambda rows: rows & (rows >> _ONE))
    size = np.outer(*(np.diff(np.append(np.arange(0, n, factor), n)) for n in classes.shape))
    cloudy = np.where(2 * shadow > masked, MaskClass.CLOUD_SHADOW, MaskClass.CLOUD)
    bare = np.where(classes[::factor, ::factor] == MaskClass.NO_DATA, MaskClass.NO_DATA, MaskClass.CLEAR)
    return np.where(masked * _SHOWN_SHARE >= size, cloudy, bare).astype(np.uint8)


def _count_cells(
    classes: NDArray[np.uint8], factor: int, mark: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> NDArray[np.uint32]:
    """How many pixels of each cell ``mark`` gives a 1."""
    height, width = classes.shape
    by_row = np.zeros((-(-height // factor), width), np.min_scalar_type(factor))
    for row in range(min(factor, height)):
        rows = mark(classes[row::factor])
        by_row[: rows.shape[0]] += rows
    return np.add.reduceat(by_row, np.arange(0, width, factor), axis=1, dtype=np.uint32)
