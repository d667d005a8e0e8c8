"""A real chip in the form of a Planetary Computer item."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
FINE_BANDS = ("B02", "B03", "B04", "B08")
"""Those of 10 m."""
TEMPLATE = "S2A_MSIL2A_20190101T000001_R116_T58UFE_20201007T214651"
"""The real item whose fields, corner and CRS the chip is given; its baseline is 02.12."""

Item = dict[str, Any]
Pixels = NDArray[np.uint16]


def read_chip(shared_data: Path) -> dict[str, Pixels]:
    """The chip by band: uint16 (512, 512), reflectance x 10000."""
    chip = {}
    for band in BANDS:
        with rasterio.open(shared_data / "s2-chip" / f"{band}.tif") as dataset:
            chip[band] = dataset.read(1)
    return chip


def write_chip_item(
    shared_data: Path, folder: Path, pixels: Mapping[str, Pixels], baseline: str = "02.12"
) -> Item:
    """An item of ``pixels`` (h, w), which are taken for pixels of 20 m, and its COGs in ``folder``.

    Each pixel of a 10 m band is written four times, so that its mean at 20 m is the chip's own.
    """
    item = deepcopy(json.loads((shared_data / "pc-items" / f"{TEMPLATE}.json").read_bytes()))
    item["properties"]["s2:processing_baseline"] = baseline
    height, width = next(iter(pixels.values())).shape
    for asset in item["assets"].values():
        if "proj:shape" in asset:
            pixel_size_m, _, west, _, _, north = asset["proj:transform"]
            asset["proj:shape"] = [int(height * 20 / pixel_size_m), int(width * 20 / pixel_size_m)]
            asset["proj:bbox"] = [west, north - height * 20, west + width * 20, north]
    for band, values in pixels.items():
        fine = values.repeat(2, axis=0).repeat(2, axis=1) if band in FINE_BANDS else values
        path = folder / f"{band}.tif"
        write_cog(
            path, fine, Affine(*item["assets"][band]["proj:transform"]), item["properties"]["proj:epsg"]
        )
        item["assets"][band]["href"] = str(path)
    return item


def write_cog(
    path: Path, pixels: NDArray[Any], transform: Affine, epsg: int, nodata: int | None = None
) -> None:
    """A COG as the Planetary Computer's: blocks of 512, averaged overviews, no-data rarely declared."""
    height, width = pixels.shape
    profile = {"driver": "GTiff", "count": 1, "height": height, "width": width, "dtype": pixels.dtype}
    with MemoryFile(ext=".tif") as memory:
        with memory.open(**profile, crs=f"EPSG:{epsg}", transform=transform, nodata=nodata) as dataset:
            dataset.write(pixels, 1)
        copy_raster(
            memory.name, path, driver="COG", blocksize=512, compress="DEFLATE", overview_resampling="AVERAGE"
        )
