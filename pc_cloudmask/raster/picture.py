"""The PNG format.

Written here because GDAL's driver warns of pictures that lie nowhere on Earth, and because an imaging
library would be one more dependency for these four chunks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_FILTER_NONE = 0
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


def encode_palette(values: NDArray[np.uint8], colors: Sequence[tuple[int, int, int, int]]) -> bytes:
    """Return ``values``, uint8 ``(height, width)`` of 0 to 3, as a PNG of two bits a pixel.

    ``colors`` gives red, green, blue and opacity of each value.
    """
    height, width = values.shape
    rows = np.zeros((height, -(-width // 4) * 4), np.uint8)
    rows[:, :width] = values
    packed = rows[:, 0::4] << 6 | rows[:, 1::4] << 4 | rows[:, 2::4] << 2 | rows[:, 3::4]
    scanlines = np.insert(packed, 0, _FILTER_NONE, axis=1).tobytes()
    chunks = {
        b"PLTE": b"".join(bytes(color[:3]) for color in colors),
        b"tRNS": bytes(color[3] for color in colors),
    }
    return join_png(values.shape, 2, ColourType.PALETTE, scanlines, chunks)
