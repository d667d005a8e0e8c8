"""Cloud-optimised GeoTIFFs with one band: written, validated, and read only in the parts that are needed.

GDAL's COG driver writes them. The source that it copies is a raster of the MEM driver with its own
overviews: the driver would first write its own to a compressed temporary file, only to
decompress them again, and a GeoTIFF in memory takes a fifth more time. The remaining time is deflate's own.

DEFLATE, because every TIFF reader has it (including browsers, ArcGIS and old GDALs); ZSTD would
save a twentieth of the bytes and no time. No predictor: it makes classes larger.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, DatasetWriter, MemoryFile
from rasterio.session import DummySession
from rasterio.windows import Window as RasterWindow

from pc_cloudmask.errors import AssetRefused
from pc_cloudmask.raster.gdal import Unreadable, gdal_environment
from pc_cloudmask.scene.grid import Grid, Shape, Window
from pc_cloudmask.text import make_printable

#: Edge of a block. Smaller ones cost requests, larger ones bytes that a reader did not ask for.
BLOCK_PX = 512
COG_OPTIONS: Mapping[str, str] = {
    "BLOCKSIZE": str(BLOCK_PX),
    "COMPRESS": "DEFLATE",
    "LEVEL": "5",  # for a mask, 6 takes 30 % more CPU time and saves 6 % of the bytes; 4 saves 20 % and adds 50 %
    "PREDICTOR": "NO",
    "OVERVIEWS": "FORCE_USE_EXISTING",
    "NUM_THREADS": "1",  # scenes run in parallel; two threads on one scene take twice the CPU time
    "BIGTIFF": "NO",
}


@dataclass(frozen=True, slots=True)
class BandStyle:
    """How the one band of a COG is described.

    ``colors`` is its colour table, which in a TIFF has no opacity; ``tags`` are the band's own.
    """

    name: str
    nodata: int
    overviews: Resampling
    colors: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    unit: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def build_cog(pixels: NDArray[np.uint8], grid: Grid, style: BandStyle) -> bytes:
    """Return the COG of ``pixels``, the same bytes every time; ValueError unless they are uint8 of the grid's shape."""
    # GDAL receives the array's address.
    pixels = np.ascontiguousarray(pixels)
    with gdal_environment(), _open_source(pixels, grid, style.nodata) as source:
        if style.colors:
            source.write_colormap(1, style.colors)
        source.update_tags(1, **style.tags)
        source.set_band_description(1, style.name)
        if style.unit:
            source.set_band_unit(1, style.unit)
        if factors := overview_factors(pixels.shape):
            source.build_overviews(factors, style.overviews)
        with MemoryFile(ext=".tif") as target:
            rasterio.shutil.copy(source, target.name, driver="COG", **COG_OPTIONS)
            return bytes(target.read())


class NotOptimized(AssetRefused):
    """A raster is not a cloud-optimised GeoTIFF; if GDAL has just written it, no item is to blame."""

    proven = False


def validate_cog(data: bytes, what: str) -> None:
    """Raise NotOptimized unless ``data`` is a COG for rio-cogeo, with all that it recommends; ``what`` names it."""
    # With the tile matrices that it includes, it takes a third of a second to import.
    from rio_cogeo.cogeo import cog_validate  # noqa: PLC0415

    try:
        with MemoryFile(data) as file:
            # Otherwise its environment would make a session of boto3, see ``gdal_environment``.
            config = {"session": DummySession()}
            _, errors, warnings = cog_validate(file.name, strict=True, config=config, quiet=True)
            faults = [fault for fault in errors + warnings if not _is_false_alarm(fault, file.name)]
    except RasterioError as error:
        raise NotOptimized(f"{what} cannot be read: {error}") from error
    if faults:
        raise NotOptimized(f"{what} is not a cloud-optimised GeoTIFF: {'; '.join(faults)}")


def _is_false_alarm(fault: str, path: str) -> bool:
    """Return True for what rio-cogeo says only of narrow rasters.

    It takes a square block as wide as the raster or an overview for a strip, and computes from the columns how much
    smaller an overview is, which fails with one column.
    """
    with gdal_environment(), rasterio.open(path) as dataset:
        height, width = dataset.block_shapes[0]
        if "not tiled" in fault:
            return bool(height == width)
        return fault.startswith("Invalid Decimation 1 ") and dataset.width == 1


def overview_factors(shape: Shape) -> list[int]:
    """Return powers of two down to an overview of one block: what the COG driver itself would choose."""
    return [1 << level for level in range(1, (-(-max(shape) // BLOCK_PX) - 1).bit_length() + 1)]


def _open_source(pixels: NDArray[np.uint8], grid: Grid, nodata: int) -> DatasetWriter:
    """Return a MEM dataset that has no pixels of its own: they stay where they are."""
    if pixels.shape != grid.shape or pixels.dtype != np.uint8:
        raise ValueError(f"{pixels.dtype} {pixels.shape} is not a uint8 raster on a grid of {grid.shape}")
    a, b, c, d, e, f = grid.transform
    described = {
        "DATAPOINTER": pixels.ctypes.data,
        "PIXELS": grid.shape[1],
        "LINES": grid.shape[0],
        "DATATYPE": "Byte",
        "GEOTRANSFORM": "/".join(map(repr, (c, a, b, f, d, e))),
    }
    name = "MEM:::" + ",".join(f"{key}={value}" for key, value in described.items())
    with gdal_environment(GDAL_MEM_ENABLE_OPEN="YES"):
        source: DatasetWriter = rasterio.open(name, "r+", driver="MEM")
    source.crs, source.nodata = grid.crs, nodata
    return source


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
        for is_held, pages in groupby(range(first, last), self._pages.__contains__):
            if not is_held and self.error is None:
                adjacent = list(pages)
                self._take(adjacent[0], adjacent[-1] + 1)

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


@dataclass(frozen=True, slots=True)
class PartsDataset:
    """A GeoTIFF of which parts are read; ``header`` gives its shape, grid and type."""

    file: PartsFile
    header: DatasetReader

    def read_block(self, window: Window) -> NDArray[Any]:
        """Return the pixels of the first band in ``window``, which lies in one block of the file."""
        height, width = self.header.block_shapes[0]
        block = f"{window.col // width}_{window.row // height}"
        with _GDAL:
            tags = (f"BLOCK_{name}_{block}" for name in ("OFFSET", "SIZE"))
            place = [self.header.get_tag_item(tag, "TIFF", bidx=1) for tag in tags]
        if all(place):
            self.file.read_at(*map(int, place))
        with _GDAL:
            pixels: NDArray[Any] = self.header.read(
                1, window=RasterWindow(window.col, window.row, window.width, window.height)
            )
        return pixels


@contextmanager
def open_parts(file: PartsFile, name: str) -> Iterator[PartsDataset]:
    """Open a GeoTIFF; ``name`` is for GDAL, and must differ from that of any other file open at the same time.

    It raises Unreadable if GDAL cannot open or decode it, and whatever reading a part raised.
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
