"""The form in which pixels come: GeoTIFF, however it is compressed, and the array in its place."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.io import MemoryFile

from pc_cloudmask.errors import EngineDenied, EngineRefused
from pc_cloudmask.masking.earth_engine.download import ComputePixels, decode_geotiff
from pc_cloudmask.scene.grid import Grid
from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.sessions import run_session
from tests.masking.earth_engine.test_engine_faults import EXPECTED, PIXELS, build_raster

GRID = Grid("EPSG:32632", (20.0, 0.0, 499_980.0, 0.0, -20.0, 5_200_020.0), (70, 90))
BYTES = np.random.default_rng(3).integers(0, 256, GRID.shape, np.uint8)


def write_geotiff(
    pixels: Any = BYTES, transform: Any = GRID.transform, crs: str = GRID.crs, **options: Any
) -> bytes:
    bands = np.atleast_3d(pixels.T).T
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with MemoryFile() as file:
        with file.open(driver="GTiff", crs=crs, transform=Affine(*transform), **shape, **options) as dataset:
            dataset.write(bands)
        return bytes(file.read())


def asked_forms(engine: LocalEarthEngine) -> list[str]:
    return [request.body["fileFormat"] for request in engine.requests.to(PIXELS)]


@pytest.mark.parametrize("compress", [None, "lzw", "deflate", "packbits", "zstd"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 32}])
def test_every_compression_gives_the_same_bytes(compress: str | None, layout: dict[str, Any]) -> None:
    body = write_geotiff(compress=compress, **layout)
    # As part of a raster that is wider than its windows.
    raster = np.full((80, 100), 7, np.uint8)
    decode_geotiff(body, GRID, raster[4:74, 3:93])
    np.testing.assert_array_equal(raster[4:74, 3:93], BYTES)
    assert np.count_nonzero(raster == 7) == raster.size - BYTES.size + np.count_nonzero(BYTES == 7)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "."),
        (b'{"error": 3}', "not recognized"),
        (write_geotiff()[:2000], "."),
        (write_geotiff(BYTES[:-1]), "69, 90"),
        (write_geotiff(BYTES.astype(np.uint16)), "uint16"),
        (write_geotiff(np.stack([BYTES, BYTES])), "2 bands"),
        (write_geotiff(transform=(20.0, 0.0, 500_000.0, 0.0, -20.0, 5_200_020.0)), "500000"),
        (write_geotiff(transform=(20.0, 0.0, 499_980.0, 0.0, 20.0, 5_200_020.0)), "pixels at"),
        (write_geotiff(crs="EPSG:32633"), "32633"),
    ],
    ids=["nothing", "JSON", "cut", "short", "type", "bands", "shifted", "upside down", "elsewhere"],
)
def test_what_is_not_the_pixels_asked_for_is_refused(body: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        decode_geotiff(body, GRID, np.empty(GRID.shape, np.uint8))


def test_pixels_are_asked_for_as_geotiff_and_are_fewer_bytes(earth_engine: LocalEarthEngine) -> None:
    with run_session(earth_engine) as session:
        raster = build_raster(session)
        (pixels,) = ComputePixels(session).read_rasters("scene-1", [raster])
    np.testing.assert_array_equal(pixels, EXPECTED)
    assert set(asked_forms(earth_engine)) == {"GEO_TIFF"}


@pytest.mark.parametrize(
    "fault",
    [
        faults.ErrorReply(400, "INVALID_ARGUMENT", "Unsupported file format."),
        faults.Answer({"no": "TIFF"}),
        faults.WrongShape(0, 1),
    ],
    ids=["refused", "no TIFF", "other pixels"],
)
def test_where_no_geotiff_comes_the_array_does_and_from_then_on_at_once(
    fault: Any, earth_engine: LocalEarthEngine, caplog: pytest.LogCaptureFixture
) -> None:
    earth_engine.faults.add(fault, path=PIXELS, file_format="GEO_TIFF")
    with run_session(earth_engine, in_flight=1) as session:
        downloader = ComputePixels(session)
        raster = build_raster(session)
        earth_engine.requests.clear()
        with caplog.at_level(logging.WARNING, "pc_cloudmask"):
            for _ in range(2):
                (pixels,) = downloader.read_rasters("scene-1", [raster])
                np.testing.assert_array_equal(pixels, EXPECTED)
    assert asked_forms(earth_engine) == ["GEO_TIFF", "NPY", "NPY"]
    assert [record.message.count("pixels come uncompressed from now on") for record in caplog.records] == [1]


def test_what_neither_form_brings_is_refused_and_the_form_is_not_to_blame(
    earth_engine: LocalEarthEngine,
) -> None:
    earth_engine.faults.add(
        faults.ErrorReply(400, "INVALID_ARGUMENT", "Image.and: no such band."), path=PIXELS, first=2
    )
    with run_session(earth_engine, in_flight=1) as session:
        downloader = ComputePixels(session)
        raster = build_raster(session)
        earth_engine.requests.clear()
        with pytest.raises(EngineRefused, match="no such band"):
            downloader.read_rasters("scene-1", [raster])
        downloader.read_rasters("scene-1", [raster])
    assert asked_forms(earth_engine) == ["GEO_TIFF", "NPY", "GEO_TIFF"]


def test_a_missing_role_is_asked_about_once(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.missing_role(), path=PIXELS)
    with run_session(earth_engine, in_flight=1) as session:
        raster = build_raster(session)
        earth_engine.requests.clear()
        with pytest.raises(EngineDenied):
            ComputePixels(session).read_rasters("scene-1", [raster])
    assert asked_forms(earth_engine) == ["GEO_TIFF"]
