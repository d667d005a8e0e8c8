"""Cloud-optimised GeoTIFFs of masks.

GDAL's COG driver does the work. The source that it copies is a raster of the MEM driver that brings
its own overviews: the driver would write its own to a compressed temporary file first, only to
decompress them again, and a GeoTIFF in memory takes a fifth more time. What is left is deflate's own.

DEFLATE, because every reader of TIFFs has it (browsers, ArcGIS and old GDALs included); ZSTD would
save a twentieth of the bytes and no time. No predictor: it makes classes larger.

Overviews of the mask are nearest neighbours. They keep every class's share of the area within
0.2 % at 16 x, where mode loses 5 % of the cloud and more than a third of the (narrow) shadow, at
twice the CPU time. The mask was dilated by a disk, so there are no single pixels to alias.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetWriter, MemoryFile
from rasterio.transform import Affine

from pc_cloudmask.masking.classes import CLASS_STYLES, PROBABILITY_NODATA
from pc_cloudmask.raster.gdal import gdal_environment
from pc_cloudmask.scene.grid import Grid, Shape

BAND_NAME = "cloudmask"
#: Edge of a block. Smaller ones cost requests, larger ones bytes that a reader did not ask for.
BLOCK_PX = 512
COG_OPTIONS: Mapping[str, str] = {
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
    with gdal_environment(), _open_source(classes, grid, nodata=0) as source:
        # A TIFF's colour table has no alpha: "clear" gets a colour, STAC says that it is transparent.
        source.write_colormap(1, {int(value): style.color for value, style in CLASS_STYLES.items()})
        # GDAL keeps category names in a side file, which a COG must not need: a tag holds them.
        source.update_tags(1, legend=build_legend())
        source.set_band_description(1, BAND_NAME)
        _write_pixels(source, classes, Resampling.nearest)
        return _copy_as_cog(source)


def build_probability_cog(probability_pct: NDArray[np.uint8], grid: Grid) -> bytes:
    """The COG of a cloud probability: uint8 percent, no data 255, averaged overviews.

    Raises:
        ValueError: ``probability_pct`` is not a uint8 array of the grid's shape.
    """
    with gdal_environment(), _open_source(probability_pct, grid, nodata=PROBABILITY_NODATA) as source:
        source.set_band_description(1, "cloud probability")
        source.set_band_unit(1, "%")
        _write_pixels(source, probability_pct, Resampling.average)
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


def _open_source(pixels: NDArray[np.uint8], grid: Grid, nodata: int) -> DatasetWriter:
    if pixels.shape != grid.shape or pixels.dtype != np.uint8:
        raise ValueError(f"{pixels.dtype} {pixels.shape} is not a uint8 raster on a grid of {grid.shape}")
    height, width = grid.shape
    return rasterio.open(
        "source",
        "w",
        driver="MEM",
        count=1,
        dtype="uint8",
        height=height,
        width=width,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        nodata=nodata,
    )


def _write_pixels(source: DatasetWriter, pixels: NDArray[np.uint8], resampling: Resampling) -> None:
    """Pixels, then overviews."""
    source.write(pixels, 1)
    factors = overview_factors(pixels.shape)
    if factors:
        source.build_overviews(factors, resampling)


def _copy_as_cog(source: DatasetWriter) -> bytes:
    with MemoryFile(ext=".tif") as target:
        rasterio.shutil.copy(source, target.name, driver="COG", **COG_OPTIONS)
        return bytes(target.read())
