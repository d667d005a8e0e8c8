"""The adapter of GEES2Downloader, with a module of the same interface and the same habits."""

from __future__ import annotations

import io
import logging
import sys
import threading
import types
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ee
import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom

from pc_cloudmask.errors import EngineRefused, EngineUnavailable, SettingsError
from pc_cloudmask.masking.classes import CloudInputs, MaskParameters
from pc_cloudmask.masking.earth_engine.download import (
    MODULE,
    ComputePixels,
    Gees2Downloader,
    build_addresses,
    check_addresses,
)
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, PixelDownloader
from pc_cloudmask.masking.earth_engine.windows import Raster
from pc_cloudmask.masking.s2cloudless import EarthEngineInputs
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.scene.scene import Scene
from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene, build_scene
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.sessions import run_session

DOWNLOADS = ":getPixels"


class Downloader:
    """``download(img, band)``, then ``array``: int16, two tiles through ``getDownloadURL``, talkative."""

    grid: Grid
    by_region = False

    def __init__(self, max_workers: int = 5, logger_level: int = logging.INFO) -> None:
        self.array: np.ndarray[Any, np.dtype[np.int16]] | None = None
        for name in logging.root.manager.loggerDict:
            logging.getLogger(name).setLevel(logging.ERROR)

    def download(self, img: Any, band: str, scale: float | None = None) -> None:
        print("Retrieving band info")  # noqa: T201 - as the real one does
        height, width = self.grid.shape
        array = np.zeros((height, width), np.int16)
        tiles = [Window(0, 0, height // 2, width), Window(height // 2, 0, height - height // 2, width)]
        for tile in tiles:
            array[tile.slices] = self.read_tile(img.select(band), tile)
        self.array = array

    def read_tile(self, image: Any, tile: Window) -> np.ndarray[Any, np.dtype[Any]]:
        grid = self.grid.window_grid(tile)
        url = image.getDownloadURL(self.describe(grid))
        body = requests.get(url, timeout=600).content
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            tiff = archive.read(archive.namelist()[0])
        with MemoryFile(tiff) as memory, memory.open() as dataset:
            return np.asarray(dataset.read(1, out_shape=tile.shape))

    def describe(self, grid: Grid) -> dict[str, Any]:
        west, south, east, north = grid.bounds
        if self.by_region:
            corners = [(west, north), (east, north), (east, south), (west, south), (west, north)]
            polygon = {"type": "Polygon", "coordinates": [corners]}
            region = transform_geom(grid.crs, "EPSG:4326", polygon)
            return {"scale": grid.pixel_size_m, "region": region}
        box = ee.Geometry.Rectangle([west, south, east, north], proj=grid.crs, geodesic=False)
        return {"crs": grid.crs, "crs_transform": list(grid.transform), "region": box}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> type[Downloader]:
    """Installs the package; the class that it has."""

    class Installed(Downloader):
        pass

    package = types.ModuleType(MODULE)
    package.GEES2Downloader = Installed  # type: ignore[attr-defined]  # a module made by hand
    monkeypatch.setitem(sys.modules, MODULE, package)
    return Installed


@pytest.fixture
def session(earth_engine: LocalEarthEngine) -> Iterator[EarthEngineSession]:
    with run_session(earth_engine) as session:
        yield session


@pytest.fixture
def scene(earth_engine: LocalEarthEngine) -> Scene:
    product = build_ragged_scene(SUNS[0], shape_20m=(100, 130))
    earth_engine.world.add_sentinel2(product)
    return build_scene(product)


GRANULE = EarthEngineImage(("20181214T133219_20181214T133217_T22KFV",))


def read(scene: Scene, downloader: PixelDownloader) -> CloudInputs:
    return EarthEngineInputs(downloader, MaskParameters()).download_inputs(scene, GRANULE)()


class OnEachGrid:
    """Tells the installed class the grid that the real one reads from the image."""

    def __init__(self, downloader: PixelDownloader, module: type[Downloader]) -> None:
        self.session = downloader.session
        self._downloader, self._module = downloader, module

    def read_rasters(self, scene_id: str, rasters: Sequence[Raster]) -> list[Any]:
        arrays = []
        for raster in rasters:
            self._module.grid = raster.grid
            arrays += self._downloader.read_rasters(scene_id, [raster])
        return arrays


def test_a_true_result_equals_compute_pixels(
    session: EarthEngineSession,
    scene: Scene,
    module: type[Downloader],
    capsys: pytest.CaptureFixture[str],
) -> None:
    downloader = OnEachGrid(Gees2Downloader(session), module)
    got, expected = read(scene, downloader), read(scene, ComputePixels(session))
    np.testing.assert_array_equal(got.probability_pct, expected.probability_pct)
    np.testing.assert_array_equal(got.dark, expected.dark)
    np.testing.assert_array_equal(got.coarse_probability_pct, expected.coarse_probability_pct)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Retrieving band info" in printed.err


def test_the_log_is_not_silenced(
    session: EarthEngineSession, scene: Scene, module: type[Downloader], caplog: pytest.LogCaptureFixture
) -> None:
    # "silenced" and "silenced.by" are names only, until somebody asks for them.
    logger = logging.getLogger("silenced.by.its_constructor")
    quiet = logging.getLogger("silenced.quiet")
    quiet.setLevel(logging.CRITICAL)
    read_tile = module.read_tile

    def talking(self: Downloader, image: Any, tile: Window) -> Any:
        logger.info("meanwhile")
        return read_tile(self, image, tile)

    module.read_tile = talking  # type: ignore[method-assign]  # the class is this test's own
    with caplog.at_level(logging.INFO):
        read(scene, OnEachGrid(Gees2Downloader(session), module))
        logger.info("after")
    said = [record.getMessage() for record in caplog.records if record.name == logger.name]
    assert set(said) == {"meanwhile", "after"}
    assert quiet.level == logging.CRITICAL


@pytest.mark.slow
def test_corners_in_degrees_do_for_a_small_tile_and_shift_a_large_one(
    session: EarthEngineSession, scene: Scene, module: type[Downloader]
) -> None:
    module.by_region = True
    downloader = OnEachGrid(Gees2Downloader(session), module)
    got, expected = read(scene, downloader), read(scene, ComputePixels(session))
    np.testing.assert_array_equal(got.probability_pct, expected.probability_pct)
    large = replace(scene, grid=replace(scene.grid, shape=(1600, 1700)))
    with pytest.raises(
        EngineRefused, match=r"pixels are not those of the item's grid: the result is shifted"
    ):
        read(large, downloader)


def test_a_result_of_another_shape_is_refused(
    session: EarthEngineSession, scene: Scene, module: type[Downloader]
) -> None:
    module.grid = replace(scene.grid, shape=(99, 130))
    downloader = Gees2Downloader(session)
    with pytest.raises(EngineRefused, match=r"\(99, 130\) pixels came, not \(100, 130\)"):
        read(scene, downloader)


def test_a_result_that_never_came_is_refused(
    session: EarthEngineSession, scene: Scene, module: type[Downloader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "download", lambda *_: None)
    with pytest.raises(EngineRefused, match="nothing came"):
        read(scene, Gees2Downloader(session))


@pytest.mark.slow
def test_an_error_in_place_of_a_tile_is_tried_again(
    earth_engine: LocalEarthEngine, session: EarthEngineSession, scene: Scene, module: type[Downloader]
) -> None:
    module.grid = scene.grid
    downloader = OnEachGrid(Gees2Downloader(session), module)
    earth_engine.faults.add(faults.too_many_requests(), path=DOWNLOADS, first=2)
    assert read(scene, downloader).probability_pct.shape == scene.grid.shape
    assert session.statistics.retries == 2
    earth_engine.faults.add(faults.unavailable(), path=DOWNLOADS)
    with pytest.raises(EngineUnavailable, match="a tile that is no ZIP file; gave up after 4 attempts"):
        read(scene, downloader)


def test_too_much_is_refused_with_the_downloader_that_splits(
    earth_engine: LocalEarthEngine, session: EarthEngineSession, scene: Scene, module: type[Downloader]
) -> None:
    module.grid = scene.grid
    earth_engine.faults.add(faults.memory_limit(), path="thumbnails")
    with pytest.raises(
        EngineRefused, match=r"User memory limit exceeded.*CLOUDMASK_DOWNLOADER=compute-pixels"
    ):
        read(scene, Gees2Downloader(session))


@pytest.mark.slow
def test_one_raster_at_a_time(
    session: EarthEngineSession, scene: Scene, module: type[Downloader], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []
    read_tile = module.read_tile

    def counted(self: Downloader, image: Any, tile: Window) -> Any:
        inside.append(threading.get_ident())
        return read_tile(self, image, tile)

    monkeypatch.setattr(module, "read_tile", counted)
    module.grid = scene.grid
    downloader = Gees2Downloader(session)
    raster = EarthEngineInputs(downloader, MaskParameters())
    session.start()
    threads = [threading.Thread(target=_read_fine, args=(raster, scene)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Both tiles of a raster follow each other: at 20 m and, in vain, at 100 m.
    assert [one == other for one, other in zip(inside[::2], inside[1::2], strict=True)] == [True] * 6


def _read_fine(source: EarthEngineInputs, scene: Scene) -> None:
    # The coarse raster fails, for the class is told one grid only.
    with pytest.raises(EngineRefused):
        source.download_inputs(scene, GRANULE)()


def test_without_the_package_its_installation_is_told(
    session: EarthEngineSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(SettingsError) as failed:
        Gees2Downloader(session)
    assert "pip install --no-deps git+https://github.com/cordmaur/GEES2Downloader" in str(failed.value)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-10, 10), st.integers(-10, 10))
def test_every_shift_is_seen(height: int, width: int, down: int, right: int) -> None:
    far = build_addresses((height + 20, width + 20))
    shifted = far[10 + down : 10 + down + height, 10 + right : 10 + right + width]
    truth = far[10 : 10 + height, 10 : 10 + width]
    assert np.all(shifted == truth) == (down == right == 0)
    assert np.all(shifted != truth) == ((down, right) != (0, 0))


@given(st.integers(0, 255))
def test_a_byte_comes_back_out_of_its_stamp(value: int) -> None:
    stamped = (build_addresses((30, 50)) * 256 + value).astype(np.int16)
    assert (check_addresses(stamped, (30, 50), "x") == value).all()
