"""Small GeoTIFFs for tests of reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine

from pc_cloudmask.scene.grid import Grid, Shape

CRS = "EPSG:32722"
WEST, NORTH = 600000.0, 7500040.0


def grid_of(shape: Shape, pixel_size_m: float = 20.0, west: float = WEST, north: float = NORTH) -> Grid:
    return Grid(CRS, (pixel_size_m, 0.0, west, 0.0, -pixel_size_m, north), shape)


def write_tiff(
    path: Path,
    pixels: NDArray[Any],
    pixel_size_m: float = 10.0,
    overviews: tuple[int, ...] = (),
    **profile: Any,
) -> Path:
    """A tiled GeoTIFF with the tests' origin; overviews are of the nearest pixel, to be told from means."""
    height, width = pixels.shape[-2:]
    settings = {
        "driver": "GTiff",
        "crs": CRS,
        "transform": Affine(pixel_size_m, 0, WEST, 0, -pixel_size_m, NORTH),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "compress": "deflate",
        **profile,
    }
    count = 1 if pixels.ndim == 2 else pixels.shape[0]
    with rasterio.open(
        path, "w", height=height, width=width, count=count, dtype=pixels.dtype, **settings
    ) as file:
        file.write(pixels if pixels.ndim == 3 else pixels[None])
        if overviews:
            file.build_overviews(list(overviews), Resampling.nearest)
    return path


def write_cog(path: Path, pixels: NDArray[Any], pixel_size_m: float = 10.0, **profile: Any) -> Path:
    """A COG of 128 x 128 blocks with averaged overviews."""
    source = write_tiff(path.with_suffix(".source"), pixels, pixel_size_m, **profile)
    rasterio.shutil.copy(source, path, driver="COG", blocksize=128, overview_resampling="average")
    source.unlink()
    return path


def mean_of_valid(pixels: NDArray[Any], factor: int, nodata: int) -> NDArray[Any]:
    """The definition, written plainly: mean of the valid pixels of each cell, rounded half up."""
    height, width = (size // factor for size in pixels.shape)
    cells = np.ma.masked_equal(pixels.astype(np.int64), nodata).reshape(height, factor, width, factor)
    means = np.floor(cells.mean(axis=(1, 3)) + 0.5)
    return np.ma.filled(means, nodata).astype(pixels.dtype)
