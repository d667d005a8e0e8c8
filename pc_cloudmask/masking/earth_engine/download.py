"""Rasters from Earth Engine, on a scene's own grid."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import ee
import numpy as np

from pc_cloudmask.errors import EngineDenied, EngineRefused
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, TooMuch
from pc_cloudmask.masking.earth_engine.windows import BAND, Bytes, Raster, plan_windows, split_window
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.web import Deadline

#: How far a GeoTIFF may lie from the requested grid, because of rounded numbers.
_SHIFT_PX = 1e-6
#: The answers of many windows may arrive at once, and decode to ten times as many pixels.
_DECODING = threading.BoundedSemaphore(4)
#: Most of them wait: for a place in flight, or to retry.
_THREADS_OF_A_PLACE = 4
logger = logging.getLogger(__name__)


class ComputePixels:
    """Downloads by ``ee.data.computePixels``, window by window.

    The grid is given as CRS, affine transform and size: a scale alone may shift pixels. A window that
    is too much for Earth Engine is split in four. Pixels come as GeoTIFF, which may be compressed; if that fails,
    the same window is requested as an array, and once this has succeeded, so are all further ones.
    """

    def __init__(self, session: EarthEngineSession) -> None:
        self.session = session
        self._compressed = True
        # Kept, because GDAL and PROJ set themselves up in each new thread, which takes longer than opening ten files.
        self._pool = ThreadPoolExecutor(_THREADS_OF_A_PLACE * session.in_flight, "earth-engine")

    def read_rasters(self, scene_id: str, rasters: Sequence[Raster]) -> list[Bytes]:
        """Download ``rasters`` as ``PixelDownloader`` says; the windows of a scene are in flight together."""
        self.session.start()
        job = _Job(self, scene_id)
        targets = [np.empty(raster.grid.shape, np.uint8) for raster in rasters]
        work = [
            (raster, target, window)
            for raster, target in zip(rasters, targets, strict=True)
            for window in plan_windows(raster.grid, self.session.limits.window_bytes)
        ]
        with self.session.statistics.phase("download"):
            windows = [self._pool.submit(job.fill_window, *arguments) for arguments in work]
            try:
                wait(windows)
            finally:
                job.end()
            for window in windows:
                window.result()
        return targets

    def read_window(self, job: _Job, raster: Raster, window: Window, target: Bytes) -> None:
        """Download one window of a scene's raster into ``target``, uint8 of the window's shape.

        Raises:
            _Ended: another window of the scene failed.
            TooMuch: a smaller one may succeed.
            EngineRefused, EngineUnavailable: as ``PixelDownloader`` says.
        """
        grid = raster.grid.window_grid(window)
        what = _name_window(job.scene_id, raster, window)
        request = {"expression": raster.image, "bandIds": [BAND], "grid": build_pixel_grid(grid)}

        def ask(file_format: str) -> Any:
            call = partial(job.begin, ee.data.computePixels, request | {"fileFormat": file_format})
            return self.session.call(what, call, job.deadline, job.scene_id)

        if not self._compressed:
            target[:] = _check_block(ask("NUMPY_NDARRAY"), window, what)
            return
        try:
            body = ask("GEO_TIFF")
            with _DECODING:
                decode_geotiff(body, grid, target)
        except EngineDenied:
            raise
        except (EngineRefused, ValueError) as error:
            target[:] = _check_block(ask("NUMPY_NDARRAY"), window, what)
            if self._compressed:
                logger.warning(
                    "%s: no GeoTIFF of it came (%s): pixels come uncompressed from now on", what, error
                )
            self._compressed = False


class _Ended(Exception):
    """Another window of the scene failed."""


class _Job:
    """One scene's download; its first failure ends all of it."""

    def __init__(self, downloader: ComputePixels, scene_id: str) -> None:
        self._downloader = downloader
        self._session = downloader.session
        self.scene_id = scene_id
        self.deadline = Deadline(self._session.limits.deadline_s)
        self._ended = threading.Event()

    def end(self) -> None:
        """Begin no further request."""
        self._ended.set()

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function``, unless a window failed while this one waited for its turn.

        Raises:
            _Ended: one did.
        """
        if self._ended.is_set():
            raise _Ended
        return function(*arguments)

    def fill_window(self, raster: Raster, target: Bytes, window: Window) -> None:
        """Download ``window`` of ``raster`` into ``target``, in parts if it is too much."""
        try:
            parts = self._read_window(raster, target, window)
        except _Ended:
            return
        except BaseException:
            self.end()
            raise
        for part in parts:
            self.fill_window(raster, target, part)

    def _read_window(self, raster: Raster, target: Bytes, window: Window) -> list[Window]:
        """Read a window; return the parts of one that was too much, which remain to be read."""
        try:
            self._downloader.read_window(self, raster, window, target[window.slices])
        except TooMuch as error:
            parts = split_window(window, self._session.limits.floor_pixels)
            if not parts:
                what = _name_window(self.scene_id, raster, window)
                raise error.failure.error_class(
                    f"{what}: {error}; a smaller window would not be worth a request"
                ) from error
            self._session.statistics.count(splits=1)
            return parts
        self._session.statistics.count(size=window.height * window.width)
        return []


def _name_window(scene_id: str, raster: Raster, window: Window) -> str:
    """Return the name of the window for errors."""
    return (
        f"{scene_id}: {raster.name} of {window.height} x {window.width} pixels at row {window.row}, "
        f"column {window.col}"
    )


def build_pixel_grid(grid: Grid) -> dict[str, Any]:
    """Return ``grid`` as Earth Engine's ``PixelGrid``."""
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    height, width = grid.shape
    return {
        "crsCode": grid.crs,
        "dimensions": {"width": width, "height": height},
        "affineTransform": dict(zip(names, grid.transform, strict=True)),
    }


def decode_geotiff(body: bytes, grid: Grid, target: Bytes) -> None:
    """Read the pixels of a GeoTIFF into ``target``, uint8 of the shape of ``grid``.

    Any compression that GDAL can read is accepted; the file must have one band of bytes on ``grid``.

    Raises:
        ValueError: it does not, or is not a GeoTIFF.
    """
    from rasterio.crs import CRS  # noqa: PLC0415 - heavy, and not needed to pair
    from rasterio.errors import RasterioError  # noqa: PLC0415
    from rasterio.io import MemoryFile  # noqa: PLC0415

    from pc_cloudmask.raster.gdal import gdal_environment  # noqa: PLC0415

    if not body:  # which rasterio would take for a file to write
        raise ValueError("is empty")
    try:
        with gdal_environment(), MemoryFile(body) as file, file.open(driver="GTiff") as dataset:
            found = (dataset.count, dataset.dtypes[0], dataset.shape)
            if found != (1, "uint8", grid.shape):
                raise ValueError("{} bands, the first of {}, of {} pixels".format(*found))
            corner = np.subtract(dataset.transform[:6], grid.transform[:6]) / grid.pixel_size_m
            if np.abs(corner).max() > _SHIFT_PX or dataset.crs != CRS.from_string(grid.crs):
                raise ValueError(f"pixels at {dataset.transform[:6]} in {dataset.crs}")
            dataset.read(1, out=target)
    except RasterioError as error:
        raise ValueError(str(error)) from error


def _check_block(block: Any, window: Window, what: str) -> Bytes:
    """Return the pixels of ``BAND``.

    Raises:
        EngineRefused: it does not have one byte per pixel of the window.
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
