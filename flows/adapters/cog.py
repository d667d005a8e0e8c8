"""Cloud-optimised GeoTIFFs of masks.

GDAL's COG driver does the work. The source that it copies is an uncompressed GeoTIFF in memory, in
strips, that brings its own overviews: the driver would write its own to a compressed temporary
file first, only to decompress them again. What is left is deflate's own time.

DEFLATE, because every reader of TIFFs has it (browsers, ArcGIS and old GDALs included); ZSTD would
save a twentieth of the bytes and no time. No predictor: it makes classes larger.

Overviews of the mask are nearest neighbours. They keep every class's share of the area within
0.2 % at 16 x, where mode loses 5 % of the cloud and more than a third of the (narrow) shadow, at
twice the CPU time. The mask was dilated by a disk, so there are no single pixels to alias.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetWriter, MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window

from flows.adapters.gdal import gdal_environment
from flows.masking.classes import CLASS_STYLES
from flows.masking.inputs import PROBABILITY_NODATA
from flows.scene.grid import Grid, Shape

BAND_NAME = "cloudmask"
BLOCK_PX = 512
"""Edge of a tile. Smaller ones cost requests, larger ones bytes that a reader did not ask for."""

_COG_OPTIONS: Mapping[str, str] = {
    "BLOCKSIZE": str(BLOCK_PX),
    "COMPRESS": "DEFLATE",
    "LEVEL": "6",
    "PREDICTOR": "NO",
    "OVERVIEWS": "FORCE_USE_EXISTING",
    "NUM_THREADS": "1",  # scenes run side by side; two threads on one scene take twice the CPU time
    "BIGTIFF": "NO",
}


def build_cog(classes: NDArray[np.uint8], grid: Grid) -> bytes:
    """The COG of a mask: uint8 classes, no data 0, colours, legend; the same bytes every time.

    ``classes`` is uint8 ``(height, width)`` of ``MaskClass`` values on ``grid``.

    Raises:
        ValueError: ``classes`` is not a uint8 array of the grid's shape.
    """
    with gdal_environment(GDAL_TIFF_OVR_BLOCKSIZE=BLOCK_PX), MemoryFile(ext=".tif") as source:
        with _open_source(source, classes, grid, nodata=0) as dataset:
            # A TIFF's colour table has no alpha: "clear" gets a colour, STAC says that it is transparent.
            dataset.write_colormap(1, {int(value): style.color for value, style in CLASS_STYLES.items()})
            # GDAL keeps category names in a side file, which a COG must not need: a tag holds them.
            dataset.update_tags(1, legend=build_legend())
            dataset.set_band_description(1, BAND_NAME)
            _write_pixels(dataset, classes, Resampling.nearest)
        return _copy_as_cog(source)


def build_probability_cog(probability_pct: NDArray[np.uint8], grid: Grid) -> bytes:
    """The COG of a cloud probability: uint8 percent, no data 255, averaged overviews.

    Raises:
        ValueError: ``probability_pct`` is not a uint8 array of the grid's shape.
    """
    with gdal_environment(GDAL_TIFF_OVR_BLOCKSIZE=BLOCK_PX), MemoryFile(ext=".tif") as source:
        with _open_source(source, probability_pct, grid, nodata=PROBABILITY_NODATA) as dataset:
            dataset.set_band_description(1, "cloud probability")
            dataset.set_band_unit(1, "%")
            _write_pixels(dataset, probability_pct, Resampling.average)
        return _copy_as_cog(source)


def build_legend() -> str:
    """Each value with its name: ``0 No data, 1 Clear, …``."""
    return ", ".join(f"{int(value)} {style.title}" for value, style in CLASS_STYLES.items())


def overview_factors(shape: Shape) -> list[int]:
    """Powers of two down to an overview of one block: what the COG driver itself would choose."""
    factors = []
    factor = 2
    while max(shape) > BLOCK_PX * factor // 2:
        factors.append(factor)
        factor *= 2
    return factors


def _open_source(memory: MemoryFile, pixels: NDArray[np.uint8], grid: Grid, nodata: int) -> DatasetWriter:
    if pixels.shape != grid.shape or pixels.dtype != np.uint8:
        raise ValueError(f"{pixels.dtype} {pixels.shape} is not a uint8 raster on a grid of {grid.shape}")
    height, width = grid.shape
    return memory.open(
        driver="GTiff",
        count=1,
        dtype="uint8",
        height=height,
        width=width,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        nodata=nodata,
        blockysize=min(BLOCK_PX, height),
    )


def _write_pixels(dataset: DatasetWriter, pixels: NDArray[np.uint8], resampling: Resampling) -> None:
    """Pixels in strips of a block's height, so that nothing is copied whole, then overviews."""
    height, width = pixels.shape
    for row in range(0, height, BLOCK_PX):
        strip = pixels[row : row + BLOCK_PX]
        dataset.write(strip, 1, window=Window(0, row, width, strip.shape[0]))
    factors = overview_factors(pixels.shape)
    if factors:
        dataset.build_overviews(factors, resampling)


def _copy_as_cog(source: MemoryFile) -> bytes:
    with MemoryFile(ext=".tif") as target:
        rasterio.shutil.copy(source.name, target.name, driver="COG", **_COG_OPTIONS)
        return bytes(target.read())
