"""The PNG format, and charts as files.

PNG is written here because previews are published under a hash of their bytes, which no library promises to keep:
GDAL and Pillow choose filters, zlib's level and the split into chunks themselves, and change them between releases.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.version import tell_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Colour types, filters of scanlines: the PNG specification, sections 11.2.2 and 9.2.
_RGB, _PALETTE, _RGBA = 2, 3, 6
_FILTER_NONE, _FILTER_UP = 0, 2


def encode_picture(pixels: NDArray[np.uint8]) -> bytes:
    """Return the PNG of a picture, uint8 ``(height, width, 3)`` or, with opacity, ``(height, width, 4)``."""
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    # Each row minus the one above it (modulo 256): what most encoders choose for pictures.
    filtered = np.diff(rows, axis=0, prepend=np.zeros((1, width * channels), np.uint8))
    return _join_png((height, width), (8, _RGBA if channels == 4 else _RGB), _FILTER_UP, filtered, {})


def encode_palette(values: NDArray[np.uint8], colors: Sequence[tuple[int, int, int, int]]) -> bytes:
    """Return ``values``, uint8 ``(height, width)`` of 0 to 3, as a PNG with two bits per pixel.

    ``colors`` gives red, green, blue and opacity of each value.
    """
    height, width = values.shape
    rows = np.zeros((height, -(-width // 4) * 4), np.uint8)
    rows[:, :width] = values
    packed = (rows[:, 0::4] << 6 | rows[:, 1::4] << 4 | rows[:, 2::4] << 2 | rows[:, 3::4]).astype(np.uint8)
    chunks = {
        b"PLTE": b"".join(bytes(color[:3]) for color in colors),
        b"tRNS": bytes(color[3] for color in colors),
    }
    return _join_png((height, width), (2, _PALETTE), _FILTER_NONE, packed, chunks)


def _join_png(
    shape: tuple[int, int],
    pixel: tuple[int, int],
    filter_type: int,
    rows: NDArray[np.uint8],
    chunks: Mapping[bytes, bytes],
) -> bytes:
    """Return the file with filtered ``rows``; ``pixel`` is bit depth and colour type, ``chunks`` come before them."""
    height, width = shape
    scanlines = np.insert(rows, 0, filter_type, axis=1).tobytes()
    # Deflate, adaptive filters, not interlaced.
    header = struct.pack(">IIBBBBB", width, height, *pixel, 0, 0, 0)
    parts = {b"IHDR": header, **chunks, b"IDAT": zlib.compress(scanlines, level=6), b"IEND": b""}
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    )


#: Colours of text, of separating lines, and of what is unknown.
INK, LINE, UNKNOWN = "#282c34", "#b0b4ba", "#dcdfe4"


def start_figure(width_in: float, height_in: float, dpi: int = 120) -> Figure:
    """Return an empty chart of this size; raise SettingsError if the extra ``charts`` is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - of an extra, and slow
    except ImportError as error:
        raise SettingsError(f"a chart needs matplotlib: {tell_extra('charts')}") from error
    return Figure((width_in, height_in), dpi=dpi, facecolor="white")


def encode_figure(figure: Figure, ending: str = ".png") -> bytes:
    """Return the file of a chart, ``.png`` or ``.svg``; the same chart gives the same bytes.

    An SVG holds text as text: it can be searched, and stays sharp.
    """
    from matplotlib import rc_context  # noqa: PLC0415

    file_format, written = ending.lstrip(".").lower(), BytesIO()
    with rc_context({"svg.hashsalt": "cloudmask", "svg.fonttype": "none"}):
        figure.savefig(written, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
    return written.getvalue()
