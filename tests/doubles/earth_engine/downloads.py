"""Pixels of an image on a grid, in the file formats of the service."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from tests.doubles.earth_engine.errors import EarthEngineError, NotBuilt
from tests.doubles.earth_engine.grids import Projection, Window
from tests.doubles.earth_engine.images import Band, Image

BLOCK_PX = 640
"""Side of the blocks that a request is computed in: a full tile's graph needs little memory."""
MAX_REQUEST_BYTES = 50_331_648
"""48 MB: uncompressed pixels of one request, one byte of mask a pixel and band included."""
MAX_COMPUTE_PIXELS_SIDE = 32_768
MAX_DOWNLOAD_SIDE = 10_000
"""Of ``getDownloadURL``."""
MAX_DOWNLOAD_BYTES = 33_554_432


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for."""

    bytes: int = MAX_REQUEST_BYTES
    side: int = MAX_COMPUTE_PIXELS_SIDE

    def check(self, bands: tuple[Band, ...], window: Window) -> None:
        """Raises: EarthEngineError, in the service's words, when it is too much."""
        if max(window.shape) > self.side:
            raise EarthEngineError(
                f"Pixel grid dimensions ({window.width}x{window.height}) must be less than or equal to "
                f"{self.side}."
            )
        size = window.width * window.height * sum(band.pixel_type.dtype.itemsize + 1 for band in bands)
        if size > self.bytes:
            raise EarthEngineError(
                f"Total request size ({size} bytes) must be less than or equal to {self.bytes} bytes."
            )


COMPUTE_PIXELS = Limits()
DOWNLOAD = Limits(MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_SIDE)


def pick_bands(image: Image, names: list[str] | None) -> tuple[Band, ...]:
    """The bands of a request, all of them by default.

    Raises:
        EarthEngineError: one is not there, or the image has none.
    """
    bands = {band.name: band for band in image.bands}
    missing = [name for name in names or [] if name not in bands]
    if missing:
        raise EarthEngineError(f"Image.select: Band pattern '{missing[0]}' did not match any bands.")
    if not bands:
        raise EarthEngineError("Image has no bands.")
    return tuple(bands[name] for name in names) if names else image.bands


def native_window(image: Image) -> Window:
    """The whole image on the grid of its first band.

    Raises:
        EarthEngineError: the image has no bounds.
    """
    block = image.block_of(image.bands[0])
    if block is None:
        raise EarthEngineError(
            "Unable to compute the bounds of an unbounded image; specify a region or grid."
        )
    return block


def requested_window(image: Image, grid: Mapping[str, Any] | None) -> Window:
    """The window of ``PixelGrid``: CRS, affine transform, dimensions; what is left out is the image's own.

    Raises:
        EarthEngineError: a grid without size.
    """
    if not grid:
        return native_window(image)
    crs = grid.get("crsCode", image.projection.crs)
    affine = grid.get("affineTransform")
    if affine is None:
        return replace(native_window(image), **_size(grid))
    transform = (
        float(affine["scaleX"]),
        float(affine.get("shearX", 0)),
        float(affine.get("translateX", 0)),
        float(affine.get("shearY", 0)),
        float(affine["scaleY"]),
        float(affine.get("translateY", 0)),
    )
    size = _size(grid)
    if size.keys() != {"width", "height"} or min(size.values()) < 1:
        raise EarthEngineError("Pixel grid dimensions must be positive.")
    return Window(Projection(crs, transform), 0, 0, **size)


def _size(grid: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in grid.get("dimensions", {}).items()}


@dataclass(frozen=True, slots=True)
class File:
    """A body with its media type."""

    body: bytes
    media_type: str


def read_arrays(bands: tuple[Band, ...], window: Window) -> dict[str, NDArray[Any]]:
    """Band name to ``(height, width)``; masked pixels are zero, as the service downloads them."""
    arrays = {band.name: np.zeros(window.shape, band.pixel_type.dtype) for band in bands}
    for row in range(0, window.height, BLOCK_PX):
        for col in range(0, window.width, BLOCK_PX):
            height, width = min(BLOCK_PX, window.height - row), min(BLOCK_PX, window.width - col)
            block = Window(window.projection, window.col + col, window.row + row, width, height)
            for band in bands:
                pixels = band.read(block)
                part = arrays[band.name][row : row + height, col : col + width]
                part[...] = np.where(pixels.valid, pixels.values, 0)
    return arrays


def write_file(arrays: Mapping[str, NDArray[Any]], window: Window, file_format: str, name: str) -> File:
    """The arrays in one of the service's formats."""
    if file_format == "NPY":
        return File(_npy(arrays), "application/octet-stream")
    if file_format == "GEO_TIFF":
        return File(_geotiff(list(arrays.values()), list(arrays), window), "image/tiff")
    if file_format == "ZIPPED_GEO_TIFF":
        return File(_zip({f"{name}.tif": _geotiff(list(arrays.values()), list(arrays), window)}), ZIP)
    if file_format == "ZIPPED_GEO_TIFF_PER_BAND":
        files = {f"{name}.{band}.tif": _geotiff([array], [band], window) for band, array in arrays.items()}
        return File(_zip(files), ZIP)
    raise NotBuilt(f"file format {file_format}")


ZIP = "application/zip"


def _npy(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A structured array with a field for each band."""
    shape = next(iter(arrays.values())).shape
    structured = np.zeros(shape, [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        structured[name] = array
    buffer = io.BytesIO()
    np.save(buffer, structured)
    return buffer.getvalue()


def _geotiff(arrays: list[NDArray[Any]], names: list[str], window: Window) -> bytes:
    height, width = arrays[0].shape
    dtype = np.result_type(*arrays)
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=len(arrays),
            dtype=dtype,
            crs=window.projection.crs,
            transform=Affine(*window.own_projection.transform),
            compress="lzw",
        ) as dataset:
            for index, (name, array) in enumerate(zip(names, arrays, strict=True), start=1):
                dataset.write(array.astype(dtype), index)
                dataset.set_band_description(index, name)
        return bytes(memory.read())


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return buffer.getvalue()
