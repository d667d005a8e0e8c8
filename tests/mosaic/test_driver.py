"""How odc-stac reads our assets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from odc.loader import RasterBandMetadata, RasterLoadParams, RasterSource
from rasterio.enums import Resampling
from rasterio.transform import Affine

from pc_cloudmask.errors import AssetError, AssetRefused, AssetUnavailable
from pc_cloudmask.mosaic.read import SHRINK_BANDS, SHRINK_CLASSES, CheckedDriver
from pc_cloudmask.raster.gdal import Unreadable
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.web import RetryPolicy
from tests.doubles.range_server import RangeServer

CRS, NEXT_ZONE = "EPSG:32722", "EPSG:32723"
WEST, NORTH = 600_000.0, 7_500_040.0
SECRET = "sv=2020&sig=t0ken%2F"  # pragma: allowlist secret
META = RasterBandMetadata("uint16", 0)


def write_raster(path: Path, pixels: np.ndarray, size: float = 10.0, **profile: Any) -> Path:
    height, width = pixels.shape[-2:]
    options = {
        "driver": "GTiff",
        "count": 1 if pixels.ndim == 2 else len(pixels),
        "dtype": pixels.dtype,
        "height": height,
        "width": width,
        "crs": CRS,
        "transform": Affine(size, 0, WEST, 0, -size, NORTH),
        **profile,
    }
    with rasterio.open(path, "w", **options) as dataset:
        dataset.write(pixels if pixels.ndim == 3 else pixels[None])
    return path


def build_box(row: int, col: int, shape: tuple[int, int], size: float = 10.0, crs: str = CRS) -> GeoBox:
    """A box whose corner is ``row`` and ``col`` pixels of its own from the rasters' corner."""
    return GeoBox(shape, Affine(size, 0, WEST + col * size, 0, -size, NORTH - row * size), crs)


def read(path: Path, box: GeoBox, shrink: str = SHRINK_BANDS) -> np.ndarray:
    """The whole box, 0 where the raster does not reach."""
    reader = AssetReader(local_root=path.parent)
    return read_through_driver(reader, str(path), box=box, shrink=shrink)


@pytest.fixture
def bands(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 5000, (40, 60)).astype(np.uint16)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize(("row", "col"), [(0, 0), (7, 11), (-5, -3), (35, 50)])
def test_pixels_that_coincide_are_copied(tmp_path: Path, bands: np.ndarray, row: int, col: int) -> None:
    path = write_raster(tmp_path / "a.tif", bands)
    padded = np.pad(bands, 20)
    expected = padded[20 + row : 20 + row + 12, 20 + col : 20 + col + 15]
    np.testing.assert_array_equal(read(path, build_box(row, col, (12, 15))), expected)


@pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 0), (7, 3), (-3, -5), (70, 111)])
@pytest.mark.parametrize("repeats", [2, 6])
def test_coarser_pixels_are_repeated_from_any_corner(
    tmp_path: Path, bands: np.ndarray, row: int, col: int, repeats: int
) -> None:
    path = write_raster(tmp_path / "a.tif", bands, size=10.0 * repeats)
    fine = np.pad(bands.repeat(repeats, 0).repeat(repeats, 1), 20)
    expected = fine[20 + row : 20 + row + 14, 20 + col : 20 + col + 17]
    np.testing.assert_array_equal(read(path, build_box(row, col, (14, 17)), SHRINK_CLASSES), expected)


def test_finer_values_are_averaged_over_what_is_valid(tmp_path: Path) -> None:
    pixels = np.array([[10, 20, 0, 0], [30, 40, 0, 9]], np.uint16)
    path = write_raster(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(read(path, build_box(0, 0, (1, 2), 20.0)), [[25, 9]])


def test_a_cell_is_masked_where_any_of_its_pixels_is(tmp_path: Path) -> None:
    classes = np.ones((12, 24), np.uint8)
    classes[5, 7], classes[2, 20], classes[8:, :8] = 2, 3, 0
    path = write_raster(tmp_path / "a.tif", classes, nodata=0)
    with rasterio.open(path, "r+") as dataset:  # overviews by nearest neighbours lose the single pixel
        dataset.build_overviews([2, 4], Resampling.nearest)
    shrunk = read(path, build_box(0, 0, (3, 6), 40.0), SHRINK_CLASSES)
    np.testing.assert_array_equal(shrunk, [[1, 1, 1, 1, 1, 3], [1, 2, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])


def test_a_neighbouring_zone_is_warped_classes_as_they_are(tmp_path: Path) -> None:
    classes = np.ones((300, 200), np.uint8)
    classes[100:200, 50:150] = 2
    path = write_raster(tmp_path / "a.tif", classes, size=20.0, nodata=0)
    x, y = rasterio.warp.transform(CRS, NEXT_ZONE, [WEST + 2000], [NORTH - 3000])
    box = GeoBox((60, 50), Affine(20, 0, x[0] - 500, 0, -20, y[0] + 600), NEXT_ZONE)
    warped = read(path, box, SHRINK_CLASSES)
    assert (warped == 2).all()
    assert set(np.unique(read(path, box.pad(200), SHRINK_CLASSES))) == {0, 1, 2}
    # An average of classes would be none; values in between are what bands are to have.
    values = write_raster(tmp_path / "b.tif", classes.astype(np.uint16) * 1000, size=20.0)
    assert len(np.unique(read(values, box.pad(100)))) > 3


@pytest.mark.parametrize(
    ("write", "hint"),
    [
        (lambda path: path.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>"), "not a TIFF"),
        (lambda path: path.write_bytes(b"II*\0"), "not a GeoTIFF"),
        (lambda path: write_raster(path, np.ones((3, 8, 8), np.uint8)), "3 bands"),
        (lambda path: write_raster(path, np.ones((8, 8), np.float32)), "float32"),
        (lambda path: write_raster(path, np.ones((8, 8), np.uint8), crs=None), "no CRS"),
        (lambda path: None, "cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_is_no_asset_of_ours_is_refused_by_name(tmp_path: Path, write: Any, hint: str) -> None:
    path = tmp_path / "a.tif"
    write(path)
    with pytest.raises(AssetRefused, match=hint) as error:
        read_through_driver(AssetReader(local_root=tmp_path), str(path))
    assert "item S2B_X" in str(error.value)


def read_through_driver(
    reader: AssetReader,
    href: str,
    pauses: list[float] | None = None,
    box: GeoBox | None = None,
    shrink: str = SHRINK_BANDS,
    stated: Sequence[Grid] = (),
) -> np.ndarray:
    """What odc-loader makes of an asset on ``box``, by default the rasters' corner."""
    pause = (pauses if pauses is not None else []).append
    driver = CheckedDriver((("", reader),), {href: "S2B_X"}, pause, {href: stated})
    source = RasterSource(href, meta=META)
    params = RasterLoadParams("uint16", 0, resampling=shrink)
    box = box or build_box(0, 0, (4, 6))
    whole = np.zeros(box.shape, np.uint16)
    with driver.restore_env(driver.capture_env(), driver.new_load(box)) as context:
        roi, pixels = driver.open(source, context).read(params, box)
    whole[roi] = pixels
    return whole


@pytest.mark.parametrize(
    "href", ["/etc/passwd", "https://example.com/a.tif", "/vsicurl/http://127.0.0.1/a.tif"]
)
def test_the_rules_for_hrefs_are_kept(tmp_path: Path, href: str) -> None:
    with pytest.raises(AssetRefused):
        read_through_driver(AssetReader(local_root=tmp_path), href)


@pytest.mark.parametrize("zone", [CRS, NEXT_ZONE])
@pytest.mark.parametrize("shrink", [SHRINK_BANDS, SHRINK_CLASSES])
def test_an_asset_that_states_no_crs_is_read_as_if_it_did(tmp_path: Path, zone: str, shrink: str) -> None:
    values = np.random.default_rng(3).integers(1, 5, (400, 300)).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", values, size=10.0)
    x, y = rasterio.warp.transform(CRS, zone, [WEST + 1000], [NORTH - 1000])
    box = GeoBox((20, 30), Affine(40, 0, x[0], 0, -40, y[0]), zone)
    expected = read_through_driver(AssetReader(local_root=tmp_path), str(path), box=box, shrink=shrink)
    bare = write_raster(tmp_path / "b.tif", values, size=10.0, crs=None)
    stated = [Grid(CRS, (10.0, 0.0, WEST, 0.0, -10.0, NORTH), (400, 300))]
    got = read_through_driver(
        AssetReader(local_root=tmp_path), str(bare), box=box, shrink=shrink, stated=stated
    )
    assert expected.any()
    np.testing.assert_array_equal(got, expected)
    elsewhere = [Grid(CRS, (10.0, 0.0, WEST, 0.0, -10.0, NORTH), (400, 301))]
    with pytest.raises(AssetRefused, match=r"item S2B_X: .*b\.tif: has no CRS"):
        read_through_driver(AssetReader(local_root=tmp_path), str(bare), box=box, stated=elsewhere)


class Signer:
    """Signs hrefs as the Planetary Computer's tokens do; ``token`` may be renewed."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.signed = 0

    def sign(self, href: str) -> str:
        self.signed += 1
        return f"{href}?sv=2020&sig={self.token}"

    def renew(self, href: str) -> str:
        self.token = "fresh"
        return self.sign(href)


@pytest.fixture
def no_waiting() -> RetryPolicy:
    return RetryPolicy(attempts=2, backoff_s=0, sleep=lambda _: None)


def test_an_asset_is_signed_when_it_is_read_and_a_stale_token_renewed(
    tmp_path: Path, bands: np.ndarray, no_waiting: RetryPolicy
) -> None:
    write_raster(tmp_path / "a.tif", bands)
    signer = Signer("stale")
    with RangeServer(tmp_path, tokens={"fresh"}) as server:
        reader = AssetReader(signer.sign, renew=signer.renew, allow_loopback=True, retry=no_waiting)
        assert signer.signed == 0
        pixels = read_through_driver(reader, f"{server.url}/a.tif")
        np.testing.assert_array_equal(pixels, bands[:4, :6])
        assert all("sig=fresh" in query for _, _, query, _ in server.requests[1:])


def test_a_transfer_that_breaks_off_is_tried_again(
    tmp_path: Path, bands: np.ndarray, no_waiting: RetryPolicy
) -> None:
    write_raster(tmp_path / "a.tif", bands)
    pauses: list[float] = []
    with RangeServer(tmp_path) as server:
        # The first answer shows a TIFF, GDAL's first request then fails for good.
        server.plan = lambda path, number: (404, b"", {}) if number == 2 else None
        reader = AssetReader(allow_loopback=True, retry=no_waiting)
        pixels = read_through_driver(reader, f"{server.url}/a.tif", pauses)
    np.testing.assert_array_equal(pixels, bands[:4, :6])
    assert len(pauses) == 1


def test_neither_error_nor_log_shows_a_signature(
    tmp_path: Path, no_waiting: RetryPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + b"x" * 5000)
    caplog.set_level(logging.DEBUG)
    with RangeServer(tmp_path, tokens={"s3cr3t"}) as server:
        signer = Signer("s3cr3t")
        reader = AssetReader(signer.sign, allow_loopback=True, retry=no_waiting)
        with pytest.raises(AssetUnavailable, match=r"a\.tif: the transfer or the decoding failed") as error:
            read_through_driver(reader, f"{server.url}/a.tif")
    cause: BaseException | None = error.value
    while cause is not None:
        assert "s3cr3t" not in str(cause)
        assert isinstance(cause, AssetError | Unreadable)
        cause = cause.__cause__ or cause.__context__
    assert "s3cr3t" not in caplog.text
