"""The mosaic's COG."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.transform import Affine
from rasterio.windows import Window as RasterWindow

from flows.adapters.gdal import gdal_environment
from flows.errors import SettingsError
from flows.mosaic.composer import Composite
from flows.mosaic.reducers import NO_VALUE
from flows.scene.grid import Grid, Window

COUNT_BAND = "count"
SCALE = 1e-4
"""Reflectance of one digital number."""
_BLOCK_PX = 512
_CACHE_BYTES = 64 << 20
"""GDAL would keep written blocks in a twentieth of the machine's memory."""
_COLORS = {"B04": ColorInterp.red, "B03": ColorInterp.green, "B02": ColorInterp.blue}

_WORK_OPTIONS = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": _BLOCK_PX,
    "blockysize": _BLOCK_PX,
    "interleave": "band",
    "SPARSE_OK": True,
    "BIGTIFF": "IF_SAFER",
}
_COG_OPTIONS = {
    "BLOCKSIZE": str(_BLOCK_PX),
    "COMPRESS": "DEFLATE",
    "PREDICTOR": "YES",
    "OVERVIEW_RESAMPLING": "AVERAGE",
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
}


@dataclass(frozen=True, slots=True)
class Canvas:
    """A raster under way: each band, then how many observations were usable."""

    _dataset: DatasetWriter

    def write_block(self, window: Window, composite: Composite) -> None:
        """Put a block into its place; blocks never written stay without data."""
        place = RasterWindow(window.col, window.row, window.width, window.height)
        self._dataset.write(composite.values, list(range(1, len(composite.values) + 1)), window=place)
        self._dataset.write(composite.count, len(composite.values) + 1, window=place)


@contextmanager
def open_canvas(path: Path, grid: Grid, bands: Sequence[str], tags: Mapping[str, str]) -> Iterator[Canvas]:
    """A canvas that becomes the COG at ``path`` once the block ends without an error.

    uint16, no data 0; what was at ``path`` stays until then. The pixels stand uncompressed in a
    temporary folder beside it in the meantime.

    Raises:
        SettingsError: the folder or the disk does not take it.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder,
            gdal_environment(GDAL_CACHEMAX=_CACHE_BYTES, CPL_TMPDIR=folder),
        ):
            work, cog = Path(folder, "work.tif"), Path(folder, "cog.tif")
            with _create(work, grid, bands) as dataset:
                dataset.update_tags(**tags)
                yield Canvas(dataset)
            rasterio.shutil.copy(str(work), str(cog), driver="COG", **_COG_OPTIONS)
            os.replace(cog, path)  # noqa: PTH105 - says that it replaces
    except (OSError, RasterioError) as error:
        raise SettingsError(f"{path}: cannot be written: {error}") from error


def read_reduced(path: Path, bands: int, size_px: int) -> NDArray[np.uint16]:
    """The first ``bands`` bands, at most ``size_px`` on the longer edge, ``(band, height, width)``."""
    with gdal_environment(), rasterio.open(path, driver="GTiff") as dataset:
        factor = max(1.0, max(dataset.shape) / size_px)
        shape = (bands, *(max(1, round(side / factor)) for side in dataset.shape))
        reduced: NDArray[np.uint16] = dataset.read(
            list(range(1, bands + 1)), out_shape=shape, resampling=Resampling.average
        )
    return reduced


def _create(path: Path, grid: Grid, bands: Sequence[str]) -> DatasetWriter:
    height, width = grid.shape
    dataset = rasterio.open(
        path,
        "w",
        count=len(bands) + 1,
        dtype="uint16",
        nodata=NO_VALUE,
        height=height,
        width=width,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        **_WORK_OPTIONS,
    )
    for index, name in enumerate((*bands, COUNT_BAND), start=1):
        dataset.set_band_description(index, name)
    dataset.scales = (*(SCALE for _ in bands), 1.0)
    dataset.colorinterp = [*(_COLORS.get(name, ColorInterp.gray) for name in bands), ColorInterp.undefined]
    return dataset
