"""Rasters from Earth Engine, on a scene's own grid: by ``computePixels``, or through the package GEES2Downloader."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ee
import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import EngineDenied, EngineRefused, SettingsError
from pc_cloudmask.masking.earth_engine.graphs import ADDRESS_MODULUS, ADDRESS_ROW_FACTOR, stamp_address
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, TooMuch
from pc_cloudmask.masking.earth_engine.windows import BAND, Bytes, Raster, plan_windows, split_window
from pc_cloudmask.scene.grid import Grid, Shape, Window
from pc_cloudmask.version import HOW_TO_INSTALL_GEES2DOWNLOADER
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
        job = _Job(scene_id, Deadline(self.session.limits.deadline_s))
        targets = [np.empty(raster.grid.shape, np.uint8) for raster in rasters]
        with self.session.statistics.phase("download"):
            windows = [
                self._pool.submit(self._fill_window, job, raster, target, window)
                for raster, target in zip(rasters, targets, strict=True)
                for window in plan_windows(raster.grid, self.session.limits.window_bytes)
            ]
            try:
                wait(windows)
            finally:
                job.ended.set()
            for window in windows:
                window.result()
        return targets

    def _fill_window(self, job: _Job, raster: Raster, target: Bytes, window: Window) -> None:
        """Download ``window`` of ``raster`` into ``target``, in parts if it is too much; a failure ends the job."""
        what = (
            f"{job.scene_id}: {raster.name} of {window.height} x {window.width} pixels at row {window.row}, "
            f"column {window.col}"
        )
        parts: list[Window] = []
        try:
            self._read_window(job, what, raster.image, raster.grid.window_grid(window), target[window.slices])
            self.session.statistics.count(size=window.height * window.width)
        except _Ended:
            return
        except TooMuch as error:
            parts = split_window(window, self.session.limits.floor_pixels)
            if not parts:
                job.ended.set()
                raise error.failure.error_class(
                    f"{what}: {error}; a smaller window would not be worth a request"
                ) from error
            self.session.statistics.count(splits=1)
        except BaseException:
            job.ended.set()
            raise
        for part in parts:
            self._fill_window(job, raster, target, part)

    def _read_window(self, job: _Job, what: str, image: ee.Image, grid: Grid, target: Bytes) -> None:
        """Download one window, whose grid is ``grid``, into ``target``; raise ``_Ended`` after another one failed."""
        request = {"expression": image, "bandIds": [BAND], "grid": build_pixel_grid(grid)}

        def ask(file_format: str) -> Any:
            call = partial(job.begin, ee.data.computePixels, request | {"fileFormat": file_format})
            return self.session.call(what, call, job.deadline, job.scene_id)

        if not self._compressed:
            target[:] = _check_block(ask("NUMPY_NDARRAY"), grid.shape, what)
            return
        try:
            body = ask("GEO_TIFF")
            with _DECODING:
                decode_geotiff(body, grid, target)
        except EngineDenied:
            raise
        except (EngineRefused, ValueError) as error:
            target[:] = _check_block(ask("NUMPY_NDARRAY"), grid.shape, what)
            if self._compressed:
                logger.warning(
                    "%s: no GeoTIFF of it came (%s): pixels come uncompressed from now on", what, error
                )
            self._compressed = False


class _Ended(Exception):
    """Another window of the scene failed."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One scene's download; its first failure ends all of it."""

    scene_id: str
    deadline: Deadline
    ended: threading.Event = field(default_factory=threading.Event)

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function``; raise ``_Ended`` if a window failed while this one waited for its turn."""
        if self.ended.is_set():
            raise _Ended
        return function(*arguments)


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

    Any compression that GDAL can read is accepted; ValueError is raised unless it has one band of bytes on ``grid``.
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


def _check_block(block: Any, shape: Shape, what: str) -> Bytes:
    """Return the pixels of ``BAND``; raise EngineRefused if there is not one byte per pixel of the window."""
    if not isinstance(block, np.ndarray) or block.dtype.names != (BAND,):
        raise EngineRefused(f"{what}: Earth Engine answered with no array of the band asked for")
    pixels = block[BAND]
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise EngineRefused(
            f"{what}: Earth Engine answered with {pixels.shape} pixels of {pixels.dtype}, not {shape} of uint8"
        )
    return pixels


MODULE = "geeS2downloader"


class Gees2Downloader:
    """A ``PixelDownloader`` for one raster at a time, since the package has threads of its own.

    https://github.com/cordmaur/GEES2Downloader: module ``geeS2downloader``, class ``GEES2Downloader``. It
    asks for tiles by their corners in degrees and fits whatever it receives into its array, so a tile may be
    shifted or stretched unnoticed. Therefore each pixel carries its address, which is checked here.
    """

    _turn = threading.Lock()

    def __init__(self, session: EarthEngineSession) -> None:
        """Find the package; raise SettingsError if it cannot be imported."""
        self.session = session
        try:
            self._module: Any = importlib.import_module(MODULE)
        except ImportError as error:
            raise SettingsError(
                f"CLOUDMASK_DOWNLOADER: gees2downloader cannot be imported ({error}); install it with "
                f"'{HOW_TO_INSTALL_GEES2DOWNLOADER}', or use compute-pixels"
            ) from error

    def read_rasters(self, scene_id: str, rasters: Sequence[Raster]) -> list[Bytes]:
        """Download ``rasters``, as ``PixelDownloader`` says."""
        self.session.start()
        deadline = Deadline(self.session.limits.deadline_s)
        with self.session.statistics.phase("download"):
            return [self._read_raster(scene_id, raster, deadline) for raster in rasters]

    def _read_raster(self, scene_id: str, raster: Raster, deadline: Deadline) -> Bytes:
        what = f"{scene_id}: {raster.name} by gees2downloader"
        request = partial(self._download, stamp_address(raster.image, raster.grid))
        try:
            stamped = self.session.call(what, request, deadline, scene_id)
        except TooMuch as error:
            raise EngineRefused(f"{what}: {error}; set CLOUDMASK_DOWNLOADER=compute-pixels") from error
        pixels = check_addresses(stamped, raster.grid.shape, what)
        self.session.statistics.count(size=pixels.size)
        return pixels

    def _download(self, image: Any) -> Any:
        # It prints, and standard output is for the report; the redirection applies to all threads.
        with self._turn, contextlib.redirect_stdout(sys.stderr), _without_netrc():
            with _keep_log_levels():
                downloader = self._module.GEES2Downloader()
            try:
                downloader.download(image, BAND)
            except zipfile.BadZipFile as error:
                # It accepts any body as a tile's ZIP, even an error.
                raise ConnectionError("a tile that is no ZIP file") from error
            return downloader.array


def check_addresses(stamped: Any, shape: Shape, what: str) -> Bytes:
    """Return the bytes of ``graphs.stamp_address``; raise EngineRefused unless each lies where its address says."""
    if not isinstance(stamped, np.ndarray) or stamped.shape != shape:
        got = f"{stamped.shape} pixels" if isinstance(stamped, np.ndarray) else "nothing"
        raise EngineRefused(f"{what}: {got} came, not {shape}; set CLOUDMASK_DOWNLOADER=compute-pixels")
    values = stamped.astype(np.int32)
    misplaced = int(np.count_nonzero(values >> 8 != build_addresses(shape)))
    if misplaced:
        raise EngineRefused(
            f"{what}: {misplaced} of {values.size} pixels are not those of the item's grid: the result is "
            "shifted; set CLOUDMASK_DOWNLOADER=compute-pixels"
        )
    return (values & 0xFF).astype(np.uint8)


def build_addresses(shape: Shape) -> NDArray[np.int32]:
    """Return the address of every pixel of a grid: int32 ``shape``, 0..126."""
    rows = np.arange(shape[0], dtype=np.int32)[:, None]
    cols = np.arange(shape[1], dtype=np.int32)[None, :]
    return (cols + ADDRESS_ROW_FACTOR * rows) % ADDRESS_MODULUS


@contextlib.contextmanager
def _without_netrc() -> Iterator[None]:
    """Keep passwords of ``~/.netrc`` out of the package's own requests, see ``pc_cloudmask.web.Session``."""
    named = os.environ.get("NETRC")
    os.environ["NETRC"] = os.devnull
    try:
        yield
    finally:
        del os.environ["NETRC"]
        if named is not None:
            os.environ["NETRC"] = named


@contextlib.contextmanager
def _keep_log_levels() -> Iterator[None]:
    """Undo what its constructor does to every logger of the process.

    It asks for them by name, so a name that was so far only part of another's (``flows``) becomes a
    logger too; left at that level it would silence everything below it.
    """
    known = logging.root.manager.loggerDict
    levels = {name: getattr(logger, "level", logging.NOTSET) for name, logger in dict(known).items()}
    try:
        yield
    finally:
        for name, level in levels.items():
            if isinstance(logger := known[name], logging.Logger):
                logger.setLevel(level)
