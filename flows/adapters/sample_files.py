"""The files of one sample scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from flows.adapters.cog import COG_OPTIONS, overview_factors
from flows.adapters.sample_rasters import COARSE_BANDS, PREVIEW_PIXEL_M, SceneRasters
from flows.adapters.sample_terrain import BANDS
from flows.masking.inputs import PROBABILITY_NODATA

# These files are read a few times, and deflate's level 6 takes three times as long to save a tenth of the
# bytes.
_COG_OPTIONS: Mapping[str, str] = {**COG_OPTIONS, "LEVEL": "5"}


@dataclass(frozen=True, slots=True)
class SampleRaster:
    """One asset's pixels: (h, w), or (h, w, 3) for a picture."""

    key: str
    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    pixel_size_m: int
    nodata: int
    overviews: Resampling

    @property
    def suffix(self) -> str:
        """How the file's name ends, in the manner of Sentinel-2's products."""
        return _SUFFIXES.get(self.key, f"{self.key}_{self.pixel_size_m}m")


_SUFFIXES: Mapping[str, str] = {
    "visual": "TCI_10m",
    "preview": "PVI",
    "cloud-probability": "CLDPRB_10m",
    "truth": "TRUTH_20m",
}


def draw_rasters(rasters: SceneRasters) -> Iterator[SampleRaster]:
    """Every raster of a scene."""
    bands = {band: rasters.draw_band(band) for band in BANDS}
    for band, pixels in bands.items():
        yield SampleRaster(band, pixels, 20 if band in COARSE_BANDS else 10, 0, Resampling.average)
    visual = rasters.draw_visual(bands["B04"], bands["B03"], bands["B02"])
    yield SampleRaster("visual", visual, 10, 0, Resampling.average)
    step = PREVIEW_PIXEL_M // 10
    yield SampleRaster(
        "preview", visual[step // 2 :: step, step // 2 :: step], PREVIEW_PIXEL_M, 0, Resampling.average
    )
    probability = rasters.draw_probability()
    yield SampleRaster("cloud-probability", probability, 10, PROBABILITY_NODATA, Resampling.average)
    yield SampleRaster("SCL", rasters.draw_scene_classes(), 20, 0, Resampling.nearest)
    yield SampleRaster("truth", rasters.draw_truth(), 20, 0, Resampling.nearest)


def write_rasters(rasters: SceneRasters, folder: Path) -> dict[str, Path]:
    """Write every raster of a scene into ``folder``; by asset key, the path."""
    scene = rasters.scene
    paths = {}
    for raster in draw_rasters(rasters):
        path = folder / f"T{scene.tile.name}_{scene.datatake_time}_{raster.suffix}.tif"
        grid = scene.tile.grid(raster.pixel_size_m)
        _write_cog(path, raster, grid.crs, Affine(*grid.transform))
        paths[raster.key] = path
    return paths


def _write_cog(path: Path, raster: SampleRaster, crs: str, transform: Affine) -> None:
    """A COG through an uncompressed file in memory that brings its overviews (see ``cog``)."""
    bands = raster.pixels[np.newaxis] if raster.pixels.ndim == 2 else np.moveaxis(raster.pixels, -1, 0)
    count, height, width = bands.shape
    profile = {
        "driver": "GTiff",
        "dtype": bands.dtype.name,
        "count": count,
        "height": height,
        "width": width,
        "crs": crs,
        "transform": transform,
        "nodata": raster.nodata,
    }
    with MemoryFile(ext=".tif") as memory:
        with memory.open(**profile) as dataset:
            dataset.write(bands)
            if factors := overview_factors((height, width)):
                dataset.build_overviews(factors, raster.overviews)
        with MemoryFile(ext=".tif") as target:
            rasterio.shutil.copy(memory.name, target.name, driver="COG", **_COG_OPTIONS)
            path.write_bytes(target.read())
