"""Rasters from Earth Engine, on a scene's own grid."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import ee
import numpy as np

from pc_cloudmask.errors import EngineRefused
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, TooMuch
from pc_cloudmask.masking.earth_engine.windows import BAND, Bytes, Raster, plan_windows, split_window
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.web import Deadline


class ComputePixels:
    """Downloads by ``ee.data.computePixels``, window by window.

    The grid is given as CRS, affine transform and size: a scale alone may shift pixels. A window that
    is too much for Earth Engine goes on in four.
    """

    def __init__(self, session: EarthEngineSession) -> None:
        self.session = session

    def read_rasters(self, scene_id: str, rasters: Sequence[Raster]) -> list[Bytes]:
        """Download ``rasters``, as ``PixelDownloader`` says; a scene's windows are under way together."""
        self.session.start()
        job = _Job(self.session, scene_id)
        targets = [np.empty(raster.grid.shape, np.uint8) for raster in rasters]
        work = [
            (raster, target, window)
            for raster, target in zip(rasters, targets, strict=True)
            for window in plan_windows(raster.grid, self.session.limits.window_bytes)
        ]
        with (
            self.session.statistics.phase("download"),
            ThreadPoolExecutor(min(len(work), self.session.in_flight), "earth-engine") as pool,
        ):
            for done in [pool.submit(job.fill_window, *arguments) for arguments in work]:
                done.result()
        return targets


class _Job:
    """One scene's download; its first failure ends it all."""

    def __init__(self, session: EarthEngineSession, scene_id: str) -> None:
        self._session = session
        self._scene_id = scene_id
        self._deadline = Deadline(session.limits.deadline_s)
        self._failed = threading.Event()

    def fill_window(self, raster: Raster, target: Bytes, window: Window) -> None:
        """Download ``window`` of ``raster`` into ``target``, in parts where it is too much."""
        if self._failed.is_set():
            return
        try:
            parts = self._read_window(raster, target, window)
        except BaseException:
            self._failed.set()
            raise
        for part in parts:
            self.fill_window(raster, target, part)

    def _read_window(self, raster: Raster, target: Bytes, window: Window) -> list[Window]:
        """Read a window; return the parts of one that was too much, which are still to be read."""
        what = (
            f"{self._scene_id}: {raster.name} of {window.height} x {window.width} pixels at row {window.row}, "
            f"column {window.col}"
        )
        request = partial(
            ee.data.computePixels,
            {
                "expression": raster.image,
                "fileFormat": "NUMPY_NDARRAY",
                "bandIds": [BAND],
                "grid": build_pixel_grid(raster.grid.window_grid(window)),
            },
        )
        try:
            block = self._session.call(what, request, self._deadline)
        except TooMuch as error:
            parts = split_window(window, self._session.limits.floor_pixels)
            if not parts:
                raise error.failure.error_class(
                    f"{what}: {error}; a smaller window would not be worth a request"
                ) from error
            self._session.statistics.count(splits=1)
            return parts
        target[window.slices] = _check_block(block, window, what)
        self._session.statistics.count(size=block.size)
        return []


def build_pixel_grid(grid: Grid) -> dict[str, Any]:
    """Return ``grid`` as Earth Engine's ``PixelGrid``."""
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    height, width = grid.shape
    return {
        "crsCode": grid.crs,
        "dimensions": {"width": width, "height": height},
        "affineTransform": dict(zip(names, grid.transform, strict=True)),
    }


def _check_block(block: Any, window: Window, what: str) -> Bytes:
    """Return the pixels of ``BAND``.

    Raises:
        EngineRefused: it is not a byte a pixel of the window.
    """
    if not isinstance(block, np.ndarray) or block.dtype.names != (BAND,):
        raise EngineRefused(f"{what}: Earth Engine answered with no array of the band asked for")
    pixels = block[BAND]
    if pixels.shape != window.shape or pixels.dtype != np.uint8:
        raise EngineRefused(
            f"{what}: Earth Engine answered with {pixels.shape} pixels of {pixels.dtype}, not {window.shape} "
            "of uint8"
        )
    return pixels
