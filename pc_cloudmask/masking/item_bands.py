"""The bands that an item itself carries, on its scene's grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetRefused, MissingField
from pc_cloudmask.masking.clouds_and_shadows import build_reflectance_table
from pc_cloudmask.raster.read import ResamplingName
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.assets import AssetReader, read_picture

Value = TypeVar("Value", bound=np.generic)
_PICTURE_ASSET = "visual"
_PICTURE_BANDS = ("B04", "B03", "B02")
#: Reflectance at which ESA's true-colour image saturates.
_WHITE = 0.3558


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


def read_true_colour(reader: AssetReader, scene: Scene, grid: Grid) -> NDArray[np.uint8]:
    """Return the scene in true colour on ``grid``, uint8 ``(height, width, 3)``: ESA's picture, or one from the bands.

    Raises:
        MissingField: the item has neither.
        AssetUnavailable: it could not be read now.
        AssetRefused: it may not be read, or is not a picture.
    """
    href = scene.asset_hrefs.get(_PICTURE_ASSET)
    if href is not None:
        stated = scene.asset_grids.get(_PICTURE_ASSET, ())
        return read_picture(reader, href, grid, item_id=scene.id, stated=stated)
    if not any(band in scene.asset_hrefs for band in _PICTURE_BANDS):
        raise MissingField(scene.id, f"assets.{_PICTURE_ASSET}")
    reduced = replace(scene, grid=grid)
    bands = [read_item_band(reader, reduced, band, np.uint16) for band in _PICTURE_BANDS]
    table = build_reflectance_table(scene.processing_baseline) * np.float32(255 / _WHITE)
    colours: NDArray[np.uint8] = np.clip(table, 0, 255).astype(np.uint8)[np.stack(bands, axis=-1)]
    return colours
