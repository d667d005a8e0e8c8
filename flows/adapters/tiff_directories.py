"""The directories of a TIFF, counted before GDAL opens it.

GDAL goes through all of them, each time that it is asked for an overview: a file of 60,000 false ones takes
minutes. Each has the offset of the next, so they are counted with a few small reads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

CHUNK_BYTES = 1 << 15
"""Read at a time: the first such part of a Sentinel-2 COG holds all of its directories."""
MAX_DIRECTORIES = 32
"""A Sentinel-2 band has 6: the image and its overviews. With a mask to each these are 12."""

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Read = Callable[[int], bytes]
"""Gives up to ``CHUNK_BYTES`` from an offset."""


class TooManyDirectories(Exception):
    """More than ``MAX_DIRECTORIES``, or they lead in a circle; the text says so."""


def check_directories(read: Read) -> None:
    """See that a TIFF has no more than ``MAX_DIRECTORIES``; what is broken otherwise is GDAL's to judge.

    Raises:
        TooManyDirectories: it has, or they lead in a circle.
    """
    window = _Window(read)
    magic = window.take(0, 4)
    order, is_big = "<" if magic[:2] == b"II" else ">", magic[2:3] == b"+" or magic[3:4] == b"+"
    first, count_form, entry_bytes, offset_form = (8, "Q", 20, "Q") if is_big else (4, "H", 12, "I")
    try:
        (offset,) = struct.unpack(order + offset_form, window.take(first, struct.calcsize(offset_form)))
        for _ in range(MAX_DIRECTORIES):
            if not offset:
                return
            count_bytes = struct.calcsize(count_form)
            (entries,) = struct.unpack(order + count_form, window.take(offset, count_bytes))
            link = offset + count_bytes + entries * entry_bytes
            (offset,) = struct.unpack(order + offset_form, window.take(link, struct.calcsize(offset_form)))
    except struct.error:  # cut short
        return
    if offset:
        raise TooManyDirectories(f"has more than {MAX_DIRECTORIES} images and overviews: not a COG")


class _Window:
    """The last part that was read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._start, self._bytes = 0, read(0)

    def take(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``, fewer at the end of the file."""
        if not self._start <= offset <= self._start + len(self._bytes) - size:
            self._start, self._bytes = offset, self._read(offset)
        return self._bytes[offset - self._start :][:size]
