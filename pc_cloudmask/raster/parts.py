"""A GeoTIFF that is read only in the parts that are needed."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from pc_cloudmask.raster.gdal import Unreadable, gdal_environment
from pc_cloudmask.scene.grid import Window
from pc_cloudmask.text import make_printable

#: The least that is requested at a time: the header of a COG of a full tile with its overviews, or two to four blocks
#: of a mask. Smaller parts cost requests, larger ones bytes.
PAGE_BYTES = 1 << 14
#: Returns bytes from an offset on, up to a given length, and the file's size.
ReadPart = Callable[[int, int], tuple[bytes, int]]
#: rasterio installs a handler in GDAL for each file that Python reads, and removes it with the file. Threads that
#: open, read and close such files at the same time crash occasionally (rasterio 1.4, GDAL 3.10). Each therefore does
#: so under this lock, and requests the bytes beforehand, without it.
_GDAL = threading.Lock()


class PartsFile:
    """A file that is read in pages, each of them once; ``bytes_read`` and ``requests`` count what that took.

    An error of ``read_part`` is kept in ``error``, since GDAL, which calls, says only that it could not read.
    """

    def __init__(self, read_part: ReadPart) -> None:
        self._read_part, self._pages = read_part, dict[int, bytes]()
        self._size = -1
        self.bytes_read = self.requests = 0
        self.error: Exception | None = None

    @property
    def size(self) -> int:
        """Return the file's size, or 0 after an error."""
        self._fetch(0, 1)
        return max(self._size, 0)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from an offset on, fewer at the end of the file; nothing after an error."""
        first, last = offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES)
        self._fetch(first, last)
        held = b"".join(self._pages.get(page, b"") for page in range(first, last))
        start = offset - first * PAGE_BYTES
        return held[start : start + size]

    def _fetch(self, first: int, last: int) -> None:
        """Read those pages that are not held, adjacent ones in one request."""
        if self._size >= 0:
            last = min(last, -(-self._size // PAGE_BYTES))
        page = first
        while page < last and self.error is None:
            end = page
            while end < last and end not in self._pages:
                end += 1
            if end > page:
                self._take(page, end)
            page = max(end, page + 1)

    def _take(self, first: int, last: int) -> None:
        try:
            body, self._size = self._read_part(first * PAGE_BYTES, (last - first) * PAGE_BYTES)
        except Exception as error:  # kept for the caller of GDAL
            self.error = error
            return
        self.requests += 1
        self.bytes_read += len(body)
        for number, page in enumerate(range(first, last)):
            self._pages[page] = body[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]


class _Handle(io.RawIOBase):
    """A position in a file, like Python's own files: GDAL opens a file twice, for its size and to read it."""

    def __init__(self, file: PartsFile) -> None:
        super().__init__()
        self._file, self._offset = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = self._file.size if whence == io.SEEK_END else self._offset if whence == io.SEEK_CUR else 0
        self._offset = start + offset
        return self._offset

    def read(self, size: int = -1) -> bytes:
        body = self._file.read_at(self._offset, max(self._file.size - self._offset, 0) if size < 0 else size)
        self._offset += len(body)
        return body


class PartsDataset:
    """A GeoTIFF of which parts are read; ``header`` gives its shape, grid and type."""

    def __init__(self, file: PartsFile, dataset: DatasetReader) -> None:
        self.header = dataset
        self._file = file

    def read_block(self, window: Window) -> NDArray[Any]:
        """Return the pixels of the first band in ``window``, which lies in one block of the file.

        Raises:
            RasterioError: GDAL could not read it.
        """
        height, width = self.header.block_shapes[0]
        block = f"{window.col // width}_{window.row // height}"
        with _GDAL:
            place = [
                self.header.get_tag_item(f"BLOCK_{name}_{block}", "TIFF", bidx=1)
                for name in ("OFFSET", "SIZE")
            ]
        if all(place):
            self._file.read_at(*map(int, place))
        with _GDAL:
            pixels: NDArray[Any] = self.header.read(
                1, window=RasterWindow(window.col, window.row, window.width, window.height)
            )
        return pixels


@contextmanager
def open_parts(file: PartsFile, name: str) -> Iterator[PartsDataset]:
    """Open a GeoTIFF; ``name`` is for GDAL, and must differ from that of any other file open at the same time.

    Raises:
        Unreadable: GDAL could not open or decode it.
        Exception: whatever reading a part raised.
    """

    def open_handle(path: str, mode: str = "rb") -> _Handle:  # noqa: ARG001 - rasterio looks for both names
        return _Handle(file)

    file.read_at(0, 1)
    try:
        with gdal_environment(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            with _GDAL:
                dataset = rasterio.open(name, driver="GTiff", opener=open_handle, sharing=False)
            try:
                yield PartsDataset(file, dataset)
            finally:
                with _GDAL:
                    dataset.close()
    except (RasterioError, ValueError) as error:
        if file.error is not None:
            raise file.error from None
        raise Unreadable(make_printable(error, 200)) from None
