"""Rasters through the package GEES2Downloader.

https://github.com/cordmaur/GEES2Downloader: module ``geeS2downloader``, class ``GEES2Downloader``. It
asks for tiles by their corners in degrees and fits whatever it receives into its array, so a tile may be
shifted or stretched unnoticed. Therefore each pixel carries its address, which is checked here.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import EngineRefused, SettingsError
from pc_cloudmask.masking.earth_engine.graphs import ADDRESS_MODULUS, ADDRESS_ROW_FACTOR, stamp_address
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, TooMuch
from pc_cloudmask.masking.earth_engine.windows import BAND, Bytes, Raster
from pc_cloudmask.scene.grid import Shape
from pc_cloudmask.version import HOW_TO_INSTALL_GEES2DOWNLOADER
from pc_cloudmask.web import Deadline

MODULE = "geeS2downloader"


class Gees2Downloader:
    """A ``PixelDownloader`` for one raster at a time, since the package has threads of its own."""

    _turn = threading.Lock()

    def __init__(self, session: EarthEngineSession) -> None:
        """Find the package.

        Raises:
            SettingsError: it is not installed, or cannot be imported.
        """
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
    """Return the bytes of ``graphs.stamp_address``, if each pixel lies where its address says.

    Raises:
        EngineRefused: they have another shape, or pixels of other places.
    """
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
    levels = {
        name: logger.level if isinstance(logger, logging.Logger) else logging.NOTSET
        for name, logger in dict(known).items()
    }
    try:
        yield
    finally:
        for name, level in levels.items():
            if isinstance(logger := known[name], logging.Logger):
                logger.setLevel(level)
