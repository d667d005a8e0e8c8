"""The bands of a scene, read from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.adapters.asset_reader import AssetReader
from flows.adapters.csmask_tiles import TILE_PX
from flows.errors import AssetRefused, MissingField
from flows.scene.grid import Window
from flows.scene.scene import Scene

STRIP_PX = 512
"""Rows of a COG's block: a strip of these decodes each block once."""


class BandRows:
    """A sliding view of a scene's bands: few rows are held, each is read once.

    Raises:
        MissingField: the item lacks one of ``bands``.
    """

    def __init__(self, reader: AssetReader, scene: Scene, bands: Sequence[str]) -> None:
        for band in bands:
            if band not in scene.asset_hrefs:
                raise MissingField(scene.id, f"assets.{band}")
        self._reader = reader
        self._scene = scene
        self._bands = bands
        self._top = 0
        self._pixels = np.empty((len(bands), 0, scene.grid.shape[1]), np.uint16)

    def read_rows(self, top: int, bottom: int) -> NDArray[np.uint16]:
        """Digital numbers of rows ``top`` to ``bottom``: uint16 ``(bands, bottom - top, width)``.

        ``top`` may be up to a tile's height above that of an earlier call.

        Raises:
            AssetUnavailable, AssetRefused: a band cannot be read, or is not uint16.
        """
        while self._top + self._pixels.shape[1] < bottom:
            self._read_strip(keep_from=max(top - TILE_PX, self._top))
        return self._pixels[:, top - self._top : bottom - self._top]

    def _read_strip(self, keep_from: int) -> None:
        """Read the next strip; drop the rows above ``keep_from``."""
        height, width = self._scene.grid.shape
        next_row = self._top + self._pixels.shape[1]
        window = Window(next_row, 0, min(STRIP_PX, height - next_row), width)
        kept = self._pixels[:, keep_from - self._top :]
        pixels = np.empty((len(self._bands), kept.shape[1] + window.height, width), np.uint16)
        pixels[:, : kept.shape[1]] = kept
        for index, band in enumerate(self._bands):
            pixels[index, kept.shape[1] :] = self._read_band(band, window)
        self._top, self._pixels = keep_from, pixels

    def _read_band(self, band: str, window: Window) -> NDArray[np.uint16]:
        scene = self._scene
        pixels = self._reader.read_band(
            scene.asset_hrefs[band], scene.grid.window_grid(window), resampling="average", item_id=scene.id
        )
        if pixels.dtype != np.uint16:
            raise AssetRefused(f"item {scene.id}: asset {band} holds {pixels.dtype}, not uint16")
        return pixels.astype(np.uint16, copy=False)
