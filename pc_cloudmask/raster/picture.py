"""The PNG format.

Written here because GDAL's driver warns of pictures that lie nowhere on Earth, and because an imaging
library would be one more dependency for these four chunks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.scene.grid import Shape

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEFLATE, _FILTER_METHOD, _NOT_INTERLACED = 0, 0, 0
_FILTER_UP = 2


class ColourType(IntEnum):
    """What a pixel holds."""

    RGB = 2
    PALETTE = 3
    RGBA = 6


def encode_picture(pixels: NDArray[np.uint8]) -> bytes:
    """The PNG of a picture, uint8 ``(height, width, 3)`` or, with opacity, ``(height, width, 4)``."""
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    # Each row less the one above it (modulo 256): what most encoders choose for pictures.
    filtered = np.diff(rows, axis=0, prepend=np.zeros((1, width * channels), np.uint8))
    scanlines = np.insert(filtered, 0, _FILTER_UP, axis=1).tobytes()
    return join_png((height, width), 8, ColourType.RGBA if channels == 4 else ColourType.RGB, scanlines)


def join_png(
    shape: tuple[int, int],
    bit_depth: int,
    colour_type: ColourType,
    scanlines: bytes,
    chunks: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """The file of filtered ``scanlines``, each with its filter's byte; ``chunks`` stand before them."""
    height, width = shape
    header = struct.pack(
        ">IIBBBBB", width, height, bit_depth, colour_type, _DEFLATE, _FILTER_METHOD, _NOT_INTERLACED
    )
    parts = {b"IHDR": header, **(chunks or {}), b"IDAT": zlib.compress(scanlines, level=6), b"IEND": b""}
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    )


WIDTH_PX = 2


def draw_outlines(
    picture: NDArray[np.uint8], classes: NDArray[np.uint8], width_px: int = WIDTH_PX
) -> NDArray[np.uint8]:
    """``picture`` with a line inside the edge of each cloud and shadow, in the class's colour.

    Where a cloud or shadow is cut by the picture's own edge there is no line.

    ``picture`` is uint8 ``(height, width, 3)``, ``classes`` uint8 ``(height, width)`` of ``MaskClass``.
    """
    drawn = picture.copy()
    for mask_class in (MaskClass.CLOUD_SHADOW, MaskClass.CLOUD):
        inside = classes == mask_class
        drawn[inside & ~_shrink(inside, width_px)] = CLASS_STYLES[mask_class].color
    return drawn


def _shrink(region: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Pixels of ``region`` that are more than ``steps`` pixels, by rows and columns, from any outside it."""
    for _ in range(steps):
        padded = np.pad(region, 1, mode="edge")
        region = region & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region


#: A cell is drawn masked where an eighth of it is: at the usual reduction of 11 x 11 pixels even the smallest
#: cloud there can be, one disk of five pixels' radius cut by four cells, keeps a cell.
_SHOWN_SHARE = 8
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
