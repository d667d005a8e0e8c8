"""The bands that an item itself carries, on its scene's grid."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetRefused, MissingField
from pc_cloudmask.raster.read import ResamplingName
from pc_cloudmask.scene.grid import Window
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.assets import AssetReader

Value = TypeVar("Value", bound=np.generic)


def read_item_band(
    reader: AssetReader,
    scene: Scene,
    key: str,
    dtype: type[Value],
    resampling: ResamplingName = "average",
    window: Window | None = None,
) -> NDArray[Value]:
    """Return asset ``key`` of the item on the scene's grid, or on ``window`` of it: ``dtype``, (height, width).

    Raises:
        MissingField: the item has no such asset.
        AssetUnavailable: it could not be read now.
        AssetRefused: it may not be read, or is of another dtype.
    """
    href = scene.asset_hrefs.get(key)
    if href is None:
        raise MissingField(scene.id, f"assets.{key}")
    grid = scene.grid.window_grid(window) if window else scene.grid
    stated = scene.asset_grids.get(key, ())
    pixels = reader.read_band(href, grid, resampling=resampling, item_id=scene.id, stated=stated)
    if pixels.dtype != dtype:
        raise AssetRefused(f"item {scene.id}: asset {key} holds {pixels.dtype}, not {np.dtype(dtype)}")
    return pixels.astype(dtype, copy=False)
