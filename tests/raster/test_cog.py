from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rio_cogeo.cogeo import cog_validate

from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.masking.files import build_mask_cog, build_probability_cog
from pc_cloudmask.raster.cog import overview_factors
from pc_cloudmask.scene.grid import Grid, Shape

Classes = NDArray[np.uint8]


def grid_of(shape: Shape) -> Grid:
    return Grid("EPSG:32722", (20.0, 0.0, 600000.0, 0.0, -20.0, 7500040.0), shape)


def make_mask(shape: Shape, seed: int = 0) -> Classes:
    """Patches of all four classes with edges in every direction."""
    coarse = np.random.default_rng(seed).integers(0, 4, (-(-shape[0] // 37), -(-shape[1] // 37)))
    return np.kron(coarse, np.ones((37, 37)))[: shape[0], : shape[1]].astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (300, 200), (512, 512), (513, 40), (700, 1100), (3, 2100)])
@pytest.mark.parametrize("build", [build_mask_cog, build_probability_cog])
def test_every_shape_is_a_valid_cog(tmp_path: Path, build, shape: Shape) -> None:
    path = tmp_path / "mask.tif"
    path.write_bytes(build(make_mask(shape), grid_of(shape)))
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])


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
