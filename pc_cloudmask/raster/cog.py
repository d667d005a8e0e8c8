"""Cloud-optimised GeoTIFFs with one band.

GDAL's COG driver does the work. The source that it copies is a raster of the MEM driver with its own
overviews: the driver would first write its own to a compressed temporary file, only to
decompress them again, and a GeoTIFF in memory takes a fifth more time. The remaining time is deflate's own.

DEFLATE, because every TIFF reader has it (including browsers, ArcGIS and old GDALs); ZSTD would
save a twentieth of the bytes and no time. No predictor: it makes classes larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter, MemoryFile
from rasterio.session import DummySession

from pc_cloudmask.errors import AssetRefused
from pc_cloudmask.raster.gdal import gdal_environment
from pc_cloudmask.scene.grid import Grid, Shape

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
    """Return the COG of ``pixels``, uint8 ``(height, width)`` on ``grid``; the same bytes every time.

    Raises:
        ValueError: ``pixels`` is not a uint8 array of the grid's shape.
    """
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
        return _copy_as_cog(source)


class NotOptimized(AssetRefused):
    """A raster is not a cloud-optimised GeoTIFF; if GDAL has just written it, no item is to blame."""

    proven = False


def validate_cog(data: bytes, what: str) -> None:
    """Check with rio-cogeo that ``data`` is a cloud-optimised GeoTIFF; what it recommends is required.

    Raises:
        NotOptimized: it is not; the text names ``what`` and every fault.
    """
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
    factors = []
    factor = 2
    while max(shape) > BLOCK_PX * factor // 2:
        factors.append(factor)
        factor *= 2
    return factors


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


def _copy_as_cog(source: DatasetWriter) -> bytes:
    with MemoryFile(ext=".tif") as target:
        rasterio.shutil.copy(source, target.name, driver="COG", **COG_OPTIONS)
        return bytes(target.read())
