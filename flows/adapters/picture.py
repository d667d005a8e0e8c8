"""A picture of a scene on a grid."""

from __future__ import annotations

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from flows.adapters.asset_reader import AssetReader
from flows.adapters.band import MAX_BLOCK_PIXELS, MAX_PIXELS, Unsuitable
from flows.adapters.gdal import Unreadable, read_asset
from flows.adapters.signatures import unsigned_href
from flows.errors import AssetRefused, AssetUnavailable
from flows.scene.grid import Grid

_RGB = (1, 2, 3)


def read_picture(reader: AssetReader, href: str, grid: Grid, *, item_id: str) -> NDArray[np.uint8]:
    """The picture behind ``href``, an asset of three bands such as ``visual``, on ``grid``.

    Returns:
        uint8 ``(height, width, 3)``, averaged through the file's overviews, black outside it.

    Raises:
        AssetUnavailable: no answer, or a transfer that broke off.
        AssetRefused: not allowed, not there, or no such picture.
    """
    name = reader.find_readable(href, item_id=item_id)
    shown = f"item {item_id}: {unsigned_href(href)}"
    try:
        return read_asset(lambda: _read_onto(name, grid))
    except Unsuitable as error:
        raise AssetRefused(f"{shown}: {error}") from error
    except Unreadable as error:
        raise AssetUnavailable(f"{shown}: the transfer or the decoding failed: {error}") from error


def _read_onto(name: str, grid: Grid) -> NDArray[np.uint8]:
    height, width = grid.shape
    with rasterio.open(name, driver="GTiff") as dataset:
        block_height, block_width = dataset.block_shapes[0]
        if dataset.count < len(_RGB) or dataset.dtypes[0] != "uint8":
            raise Unsuitable(f"has {dataset.count} bands of {dataset.dtypes[0]}, not three of uint8")
        if dataset.width * dataset.height > MAX_PIXELS or block_height * block_width > MAX_BLOCK_PIXELS:
            raise Unsuitable(f"claims {dataset.width} x {dataset.height} pixels, or is not in blocks")
        with WarpedVRT(
            dataset,
            crs=grid.crs,
            transform=Affine(*grid.transform),
            height=height,
            width=width,
            resampling=Resampling.average,
        ) as warped:
            bands: NDArray[np.uint8] = warped.read(_RGB)
    return np.ascontiguousarray(bands.transpose(1, 2, 0))
