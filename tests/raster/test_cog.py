from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from pc_cloudmask.errors import AssetRefused
from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.masking.files import build_mask_cog, build_probability_cog
from pc_cloudmask.raster.cog import COG_OPTIONS, overview_factors, validate_cog
from pc_cloudmask.scene.grid import Grid, Shape
from tests.raster.rasters import write_tiff

Classes = NDArray[np.uint8]


def grid_of(shape: Shape) -> Grid:
    return Grid("EPSG:32722", (20.0, 0.0, 600000.0, 0.0, -20.0, 7500040.0), shape)


def make_mask(shape: Shape, seed: int = 0) -> Classes:
    """Patches of all four classes with edges in every direction."""
    coarse = np.random.default_rng(seed).integers(0, 4, (-(-shape[0] // 37), -(-shape[1] // 37)))
    return coarse.astype(np.uint8).repeat(37, 0).repeat(37, 1)[: shape[0], : shape[1]].copy()


ODD_SIZES = [1, 3, 40, 511, 512, 513, 1024, 2100]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [*itertools.product(ODD_SIZES, ODD_SIZES), (5490, 5490)])
@pytest.mark.parametrize("build", [build_mask_cog, build_probability_cog])
def test_every_shape_is_a_valid_cog(build, shape: Shape) -> None:
    validate_cog(build(make_mask(shape), grid_of(shape)), "the mask")


def test_pixels_need_not_lie_one_after_the_other() -> None:
    mask = make_mask((700, 1300))
    for view in (mask[:, ::2], mask[::-1], np.asfortranarray(mask)):
        plain = np.array(view, order="C")
        plain.flags.writeable = False
        assert build_mask_cog(view, grid_of(view.shape)) == build_mask_cog(plain, grid_of(plain.shape))


@pytest.mark.parametrize("value", MaskClass)
def test_a_mask_of_one_class_is_a_valid_cog(value: MaskClass) -> None:
    validate_cog(build_mask_cog(np.full((1100, 700), value, np.uint8), grid_of((1100, 700))), "the mask")


UNTILED, NO_OVERVIEWS = "is not tiled", "recommended to include internal overviews"


@pytest.mark.parametrize(
    ("profile", "overviews", "faults"),
    [
        ({"tiled": False, "blockxsize": None, "blockysize": 1}, (2, 4), [UNTILED]),
        ({}, (), [NO_OVERVIEWS]),
        ({"tiled": False, "blockxsize": None, "blockysize": 1}, (), [UNTILED, NO_OVERVIEWS]),
        ({}, (2, 4), ["offset of the first block"]),
    ],
    ids=["not tiled", "no overviews", "neither", "overviews behind the pixels"],
)
def test_what_is_no_cog_is_refused(tmp_path: Path, profile, overviews, faults) -> None:
    path = write_tiff(tmp_path / "mask.tif", make_mask((600, 700)), overviews=overviews, **profile)
    with pytest.raises(AssetRefused, match=r"^the mask of X is not a cloud-optimised GeoTIFF: ") as refused:
        validate_cog(path.read_bytes(), "the mask of X")
    for fault in faults:
        assert fault in str(refused.value)


@pytest.mark.parametrize("build", [build_mask_cog, build_probability_cog])
def test_a_mask_that_gdal_wrote_otherwise_is_not_handed_on(monkeypatch: pytest.MonkeyPatch, build) -> None:
    monkeypatch.setitem(COG_OPTIONS, "OVERVIEWS", "NONE")  # as another GDAL might understand the options
    classes = make_mask((600, 700))
    with pytest.raises(AssetRefused, match=r"is not a cloud-optimised GeoTIFF: .*internal overviews"):
        build(classes, grid_of(classes.shape))


@pytest.mark.parametrize(
    "body", [b"", b"not a raster", build_mask_cog(make_mask((9, 9)), grid_of((9, 9)))[:300]]
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(AssetRefused, match=r"^the mask of X "):
        validate_cog(body, "the mask of X")


def test_a_mask_keeps_its_pixels_grid_colours_names() -> None:
    classes = make_mask((700, 1100))
    with MemoryFile(build_mask_cog(classes, grid_of(classes.shape))) as file, file.open() as dataset:
        np.testing.assert_array_equal(dataset.read(1), classes)
        assert dataset.crs.to_epsg() == 32722
        assert tuple(dataset.transform)[:6] == grid_of(classes.shape).transform
        assert dataset.nodata == MaskClass.NO_DATA
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.overviews(1) == [2, 4]
        assert dataset.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert dataset.tags(1)["legend"] == "0 No data, 1 Clear, 2 Cloud, 3 Cloud shadow"
        colours = dataset.colormap(1)
    for value, style in CLASS_STYLES.items():
        assert colours[int(value)][:3] == style.color


def test_overviews_of_a_mask_hold_its_classes_in_their_shares() -> None:
    classes = make_mask((1400, 2100))
    body = build_mask_cog(classes, grid_of(classes.shape))
    for level in range(3):
        with MemoryFile(body) as file, rasterio.open(file.name, overview_level=level) as overview:
            pixels = overview.read(1)
        assert set(np.unique(pixels)) <= set(np.unique(classes))
        for value in MaskClass:
            assert (pixels == value).mean() == pytest.approx((classes == value).mean(), abs=0.01)


def test_overviews_of_a_probability_are_means_of_what_is_valid() -> None:
    shape = (1024, 600)
    probability = np.random.default_rng(1).integers(0, 101, shape).astype(np.uint8)
    probability[::2, ::2] = 255
    probability[:200] = 255
    body = build_probability_cog(probability, grid_of(shape))
    with MemoryFile(body) as file, rasterio.open(file.name, overview_level=0) as overview:
        assert overview.nodata == 255
        pixels = overview.read(1)
    cells = np.ma.masked_equal(probability, 255).reshape(512, 2, 300, 2)
    expected = np.floor(cells.mean(axis=(1, 3)) + 0.5).filled(255)
    np.testing.assert_array_equal(pixels, expected)


def test_the_same_mask_gives_the_same_bytes_in_any_thread() -> None:
    classes = make_mask((600, 800))
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda _: build_mask_cog(classes, grid_of(classes.shape)), range(8)))
    assert len(set(bodies)) == 1


@pytest.mark.parametrize("array", [np.zeros((10, 20), np.int16), np.zeros((20, 10), np.uint8)])
def test_an_array_that_is_not_the_grids_is_refused(array: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"not a uint8 raster on a grid of \(10, 20\)"):
        build_mask_cog(array, grid_of((10, 20)))


@pytest.mark.parametrize(
    ("shape", "factors"),
    [((512, 512), []), ((513, 2), [2]), ((5490, 5490), [2, 4, 8, 16]), ((10980, 100), [2, 4, 8, 16, 32])],
)
def test_overviews_end_with_one_block(shape: Shape, factors: list[int]) -> None:
    assert overview_factors(shape) == factors
