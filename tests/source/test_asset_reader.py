"""Reading local rasters onto grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import Affine

from pc_cloudmask.errors import AssetRefused
from pc_cloudmask.scene.grid import Grid, Window, list_stated_grids
from pc_cloudmask.source.assets import AssetReader
from tests.raster.rasters import NORTH, WEST, grid_of, mean_of_valid, write_cog, write_tiff

SHAPE = (360, 240)
"""Of the rasters at 10 m: not square, divisible by 2, 3, 4."""


def read(
    path: Path,
    grid: Grid,
    resampling: Literal["nearest", "average"] = "average",
    stated: Sequence[Grid] = (),
) -> NDArray[Any]:
    return AssetReader(local_root=path.parent).read_band(
        str(path), grid, resampling=resampling, item_id="S2X", stated=stated
    )


def make_pixels(dtype: str = "uint16", high: int = 5) -> NDArray[Any]:
    """Few values, so that every cell of the tests has no-data pixels somewhere and ties everywhere."""
    return np.random.default_rng(7).integers(0, high, SHAPE).astype(dtype)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[Any]]:
    pixels = make_pixels()
    return write_tiff(tmp_path_factory.mktemp("plain") / "B08.tif", pixels), pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_a_raster_on_the_grid_itself_comes_as_it_is(tmp_path: Path, dtype: str) -> None:
    pixels = make_pixels(dtype, 100) - np.array(30 * (dtype == "int16"), dtype)
    result = read(write_tiff(tmp_path / "a.tif", pixels), grid_of(SHAPE, 10.0), "nearest")
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, pixels)


@pytest.mark.parametrize("factor", [2, 3, 4, 6])
def test_without_overviews_the_average_is_the_mean_of_valid_pixels(
    plain: tuple[Path, NDArray[Any]], factor: int
) -> None:
    path, pixels = plain
    grid = grid_of((SHAPE[0] // factor, SHAPE[1] // factor), 10.0 * factor)
    np.testing.assert_array_equal(read(path, grid), mean_of_valid(pixels, factor, 0))


def test_negative_values_are_averaged_rounding_half_up(tmp_path: Path) -> None:
    pixels = np.array([[-3, -4, -1, 2], [0, 0, 0, 0]], np.int16)
    result = read(write_tiff(tmp_path / "a.tif", pixels), grid_of((1, 2)))
    assert result.tolist() == [[-3, 1]]


def test_a_declared_no_data_value_is_left_out_and_filled_in(tmp_path: Path) -> None:
    pixels = np.where(make_pixels("uint8") == 4, 255, make_pixels("uint8"))
    path = write_tiff(tmp_path / "probability.tif", pixels.astype(np.uint8), nodata=255)
    grid = grid_of((SHAPE[0] // 2 + 3, SHAPE[1] // 2))
    result = read(path, grid)
    np.testing.assert_array_equal(result[:-3], mean_of_valid(pixels.astype(np.uint8), 2, 255))
    assert (result[-3:] == 255).all()


def test_an_overview_that_fits_is_read_in_place_of_the_pixels(tmp_path: Path) -> None:
    pixels = make_pixels()
    path = write_tiff(tmp_path / "a.tif", pixels, overviews=(2, 4))
    half, quarter = grid_of((180, 120)), grid_of((90, 60), 40.0)
    np.testing.assert_array_equal(read(path, half), pixels[::2, ::2])
    assert not np.array_equal(read(path, quarter), mean_of_valid(pixels, 4, 0))
    # 60 m are three overview pixels of 20 m, 30 m are none.
    np.testing.assert_array_equal(read(path, grid_of((60, 40), 60.0)), mean_of_valid(pixels[::2, ::2], 3, 0))
    np.testing.assert_array_equal(read(path, grid_of((120, 80), 30.0)), mean_of_valid(pixels, 3, 0))


def test_a_window_is_read_from_where_it_lies_in_an_overview(tmp_path: Path) -> None:
    pixels = make_pixels()
    path = write_tiff(tmp_path / "a.tif", pixels, overviews=(2, 4))
    grid = grid_of((50, 30), west=WEST + 400, north=NORTH - 1200)
    np.testing.assert_array_equal(read(path, grid), pixels[::2, ::2][60:110, 20:50])


def test_a_tall_raster_is_averaged_alike_in_all_its_strips(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 4000, (1406, 6)).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(read(path, grid_of((703, 3))), mean_of_valid(pixels, 2, 0))
    np.testing.assert_array_equal(read(path, grid_of((703, 3)), "nearest"), pixels[1::2, 1::2])


def test_an_overview_whose_pixels_drift_is_not_read(tmp_path: Path) -> None:
    pixels = make_pixels()[:359, :239]
    path = write_tiff(tmp_path / "a.tif", pixels, overviews=(2, 4))
    padded = np.zeros(SHAPE, pixels.dtype)
    padded[:359, :239] = pixels
    np.testing.assert_array_equal(read(path, grid_of((180, 120))), mean_of_valid(padded, 2, 0))


def test_an_overview_is_not_read_from_between_its_pixels(tmp_path: Path) -> None:
    pixels = make_pixels()
    path = write_tiff(tmp_path / "a.tif", pixels, overviews=(2, 4))
    grid = grid_of((100, 100), west=WEST + 10, north=NORTH - 10)
    np.testing.assert_array_equal(read(path, grid), mean_of_valid(pixels[1:201, 1:201], 2, 0))


def test_a_cog_at_half_resolution_is_its_overview(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(1, 4000, SHAPE).astype(np.uint16)
    path = write_cog(tmp_path / "a.tif", pixels)
    np.testing.assert_allclose(
        read(path, grid_of((180, 120))).astype(int), mean_of_valid(pixels, 2, 0), atol=1
    )


@settings(max_examples=60, deadline=None)
@given(
    factor=st.integers(1, 5),
    offset=st.tuples(st.integers(-60, 380), st.integers(-60, 260)),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    resampling=st.sampled_from(["nearest", "average"]),
)
def test_any_window_is_the_raster_in_a_sea_of_no_data(
    plain: tuple[Path, NDArray[Any]],
    factor: int,
    offset: tuple[int, int],
    shape: tuple[int, int],
    resampling: Literal["nearest", "average"],
) -> None:
    path, pixels = plain
    sea = np.zeros((SHAPE[0] + 1000, SHAPE[1] + 1000), pixels.dtype)
    sea[100 : 100 + SHAPE[0], 100 : 100 + SHAPE[1]] = pixels
    part = sea[100 + offset[0] :, 100 + offset[1] :][: shape[0] * factor, : shape[1] * factor]
    grid = grid_of(shape, 10.0 * factor, WEST + 10 * offset[1], NORTH - 10 * offset[0])
    if resampling == "average":
        expected = mean_of_valid(part, factor, 0)
    else:
        expected = part[factor // 2 :: factor, factor // 2 :: factor]
    np.testing.assert_array_equal(read(path, grid, resampling), expected)


def test_windows_of_a_grid_are_parts_of_the_whole(plain: tuple[Path, NDArray[Any]]) -> None:
    path, _ = plain
    grid = grid_of((200, 130))
    whole = read(path, grid)
    for window in [*grid.blocks(64, 50), Window(199, 129, 1, 1)]:
        np.testing.assert_array_equal(read(path, grid.window_grid(window)), whole[window.slices])


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        (Grid("EPSG:32723", grid_of(SHAPE).transform, (10, 10)), "has CRS EPSG:32722, the item EPSG:32723"),
        (grid_of((10, 10), west=WEST + 5), "off the item's grid by .*0.500"),
        (grid_of((10, 10), north=NORTH + 0.1), "off the item's grid"),
        (grid_of((10, 10), 5.0), "which do not divide 5 x 5"),
        (grid_of((10, 10), 15.0), "which do not divide 15 x 15"),
        (Grid("EPSG:32722", (20.0, 1.0, WEST, 0.0, -20.0, NORTH), (10, 10)), "not north-up"),
        (Grid("EPSG:32722", (20.0, 0.0, WEST, 1.0, -20.0, NORTH), (10, 10)), "not north-up"),
        (Grid("EPSG:32722", (20.0, 0.0, WEST, 0.0, 20.0, NORTH), (10, 10)), "not north-up"),
        (Grid("EPSG:32722", (-20.0, 0.0, WEST, 0.0, -20.0, NORTH), (10, 10)), "not north-up"),
        (Grid("EPSG:32722", (20.0, 0.0, WEST, 0.0, -30.0, NORTH), (10, 10)), "which do not divide 20 x 30"),
        (Grid("EPSG:32722", (25.0, 0.0, WEST, 0.0, -20.0, NORTH), (10, 10)), "which do not divide 25 x 20"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(
    plain: tuple[Path, NDArray[Any]], grid: Grid, problem: str
) -> None:
    with pytest.raises(AssetRefused, match=f"item S2X: .*B08.tif: .*{problem}"):
        read(plain[0], grid)


UNKNOWN_CRS = [
    None,
    'LOCAL_CS["WGS 84 / UTM zone 22S",UNIT["metre",1]]',
    'LOCAL_CS["unnamed",UNIT["metre",1]]',
]


@pytest.mark.slow
@pytest.mark.parametrize("crs", UNKNOWN_CRS)
@pytest.mark.parametrize(
    "fields", [{"proj:transform": [10.0, 0, WEST, 0, -10, NORTH, 0, 0, 1], "proj:shape": [360, 240]}, {}]
)
def test_a_raster_that_states_no_crs_and_lies_as_its_item_says_is_read(
    tmp_path: Path, crs: str | None, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pixels = make_pixels()
    path = write_cog(tmp_path / "B08.tif", pixels, crs=crs)
    grid = grid_of((180, 120))
    stated = list_stated_grids(grid, fields)
    for part in (grid, grid.window_grid(Window(30, 20, 40, 60))):
        expected = read(write_cog(tmp_path / "told.tif", pixels), part)
        np.testing.assert_array_equal(read(path, part, stated=stated), expected)
    assert "B08.tif: states no CRS: it is read in the item's, EPSG:32722" in caplog.text


@pytest.mark.parametrize(
    ("crs", "fields", "problem"),
    [
        ("EPSG:32723", {}, "has CRS EPSG:32723, the item EPSG:32722"),
        ("EPSG:4326", {}, "has CRS EPSG:4326"),
        ('LOCAL_CS["WGS 84 / UTM zone 23S",UNIT["metre",1]]', {}, "has CRS of its own"),
        (None, {"proj:transform": [10, 0, WEST + 10, 0, -10, NORTH], "proj:shape": [360, 240]}, "has no CRS"),
        (
            None,
            {"proj:transform": [10, 0, WEST, 0, -10, NORTH + 100], "proj:shape": [360, 240]},
            "has no CRS",
        ),
        (None, {"proj:transform": [10, 0, WEST, 0, -10, NORTH], "proj:shape": [360, 241]}, "has no CRS"),
        (None, {"proj:transform": [20, 0, WEST, 0, -20, NORTH], "proj:shape": [180, 120]}, "has no CRS"),
    ],
)
def test_a_raster_of_another_crs_or_place_than_its_item_says_is_refused(
    tmp_path: Path, crs: str | None, fields: dict[str, Any], problem: str
) -> None:
    path, grid = write_tiff(tmp_path / "B08.tif", make_pixels(), crs=crs), grid_of((180, 120))
    with pytest.raises(AssetRefused, match=f"item S2X: .*B08.tif: {problem}"):
        read(path, grid, stated=list_stated_grids(grid, fields))


@pytest.mark.parametrize("turned", [(10, 1, 0, -10), (10, 0, 1, -10), (10, 0, 0, 10), (-10, 0, 0, -10)])
def test_a_raster_that_is_not_north_up_is_refused(
    tmp_path: Path, turned: tuple[float, float, float, float]
) -> None:
    a, b, d, e = turned
    path = write_tiff(tmp_path / "B08.tif", make_pixels(), transform=Affine(a, b, WEST, d, e, NORTH))
    with pytest.raises(AssetRefused, match="not north-up"):
        read(path, grid_of((10, 10)))


def test_floating_point_noise_in_an_origin_is_no_shift(plain: tuple[Path, NDArray[Any]]) -> None:
    path, pixels = plain
    grid = grid_of(SHAPE, 10.0, WEST + 1e-6, NORTH - 1e-6)
    np.testing.assert_array_equal(read(path, grid), pixels)


@pytest.mark.parametrize(
    ("pixels", "profile", "problem"),
    [
        (np.ones((3, 20, 30), np.uint8), {}, "has 3 bands"),
        (np.ones((20, 30), np.float32), {}, "holds float32"),
        (np.ones((20, 30), np.uint32), {}, "holds uint32"),
        (np.ones((20, 30), np.uint8), {"crs": None}, "has no CRS, and lies otherwise than"),
    ],
)
def test_a_raster_of_another_kind_is_refused(
    tmp_path: Path, pixels: NDArray[Any], profile: dict[str, Any], problem: str
) -> None:
    path = write_tiff(tmp_path / "a.tif", pixels, **profile)
    with pytest.raises(AssetRefused, match=problem):
        read(path, grid_of((10, 10), 10.0))


@pytest.mark.shared
def test_a_real_chip_is_read(shared_data: Path) -> None:
    path = shared_data / "s2-chip" / "B08.tif"
    grid = Grid("EPSG:32633", (30.0, 0.0, 500000.0, 0.0, -30.0, 5000000.0), (512, 512))
    whole = read(path, grid, "nearest")
    assert whole.dtype == np.uint16
    coarse = Grid(grid.crs, (60.0, 0.0, 500000.0, 0.0, -60.0, 5000000.0), (256, 256))
    np.testing.assert_array_equal(read(path, coarse), mean_of_valid(whole, 2, 0))
