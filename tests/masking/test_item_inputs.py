"""Inputs read from the rasters that an item carries."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pc_cloudmask.errors import AssetRefused, MissingField
from pc_cloudmask.masking.classes import CloudInputs, MaskParameters
from pc_cloudmask.masking.files import build_probability_cog
from pc_cloudmask.masking.methods import has_own_inputs
from pc_cloudmask.masking.s2cloudless import build_coarse_probability, read_item_inputs
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.assets import AssetReader
from tests.sample_archive import read_scenes

GRID = Grid("EPSG:32722", (20.0, 0.0, 600000.0, 0.0, -20.0, 7500040.0), (3, 7))


def write_raster(path: Path, pixels: NDArray[np.generic], pixel_size_m: int, nodata: int = 0) -> str:
    grid = GRID.at_pixel_size(pixel_size_m)
    profile = {"driver": "GTiff", "count": 1, "crs": grid.crs, "transform": Affine(*grid.transform)}
    height, width = pixels.shape
    with rasterio.open(
        path, "w", dtype=pixels.dtype, height=height, width=width, nodata=nodata, **profile
    ) as dataset:
        dataset.write(pixels, 1)
    return str(path)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A scene of 3 x 7 pixels: clear, bright land."""
    hrefs = {
        "cloud-probability": write_raster(tmp_path / "p.tif", np.full((6, 14), 10, np.uint8), 10, nodata=255),
        "B08": write_raster(tmp_path / "B08.tif", np.full((6, 14), 3000, np.uint16), 10),
        "SCL": write_raster(tmp_path / "SCL.tif", np.full((3, 7), 4, np.uint8), 20),
    }
    return Scene(
        id="S2B_TEST",
        datetime=datetime(2018, 12, 14, tzinfo=UTC),
        tile="22KFV",
        platform="Sentinel-2B",
        grid=GRID,
        solar_azimuth_deg=96.5,
        solar_zenith_deg=23.6,
        datatake_id="",
        datastrip_id="",
        processing_baseline="02.12",
        footprint={},
        asset_hrefs=hrefs,
    )


def with_asset(scene: Scene, key: str, href: str | None) -> Scene:
    hrefs = {name: value for name, value in scene.asset_hrefs.items() if name != key}
    return replace(scene, asset_hrefs=hrefs | ({key: href} if href else {}))


def read(scene: Scene, folder: Path) -> CloudInputs:
    return read_item_inputs(AssetReader(local_root=folder), scene, MaskParameters())


def test_the_probability_is_the_mean_of_the_valid_pixels(scene: Scene, tmp_path: Path):
    fine = np.full((6, 14), 255, np.uint8)
    fine[0:2, 0:2] = [[50, 51], [50, 51]]  # 50.5: half up
    fine[0:2, 2:4] = [[100, 255], [255, 255]]
    fine[4:6, 12:14] = [[0, 0], [1, 0]]
    scene = with_asset(scene, "cloud-probability", write_raster(tmp_path / "q.tif", fine, 10, nodata=255))
    expected = np.full((3, 7), 255, np.uint8)
    expected[0, 0], expected[0, 1], expected[2, 6] = 51, 100, 0
    inputs = read(scene, tmp_path)
    np.testing.assert_array_equal(inputs.probability_pct, expected)
    np.testing.assert_array_equal(inputs.coarse_probability_pct, build_coarse_probability(expected))


def test_dark_is_the_mean_reflectance_of_land(scene: Scene, tmp_path: Path):
    nir = np.full((6, 14), 3000, np.uint16)
    nir[0:2, 0:2] = [[1400, 1400], [1400, 1799]]  # mean 1499.75, rounded 1500: not below
    nir[0:2, 2:4] = [[1400, 1400], [1400, 1790]]
    nir[0:2, 4:6] = 200
    classes = np.full((3, 7), 4, np.uint8)
    classes[0, 2] = 6
    scene = with_asset(scene, "B08", write_raster(tmp_path / "nir.tif", nir, 10))
    scene = with_asset(scene, "SCL", write_raster(tmp_path / "classes.tif", classes, 20))
    dark = read(scene, tmp_path).dark
    assert np.argwhere(dark).tolist() == [[0, 1]]


def test_the_offset_of_newer_baselines_is_taken_out(scene: Scene, tmp_path: Path):
    nir = np.full((6, 14), 2400, np.uint16)  # 0.24 before baseline 04.00, 0.14 after
    scene = with_asset(scene, "B08", write_raster(tmp_path / "nir.tif", nir, 10))
    assert not read(scene, tmp_path).dark.any()
    newer = replace(scene, processing_baseline="04.00")
    assert read(newer, tmp_path).dark.all()


def test_a_probability_published_at_20_m_gives_the_same_inputs(sample_items: Path, tmp_path: Path):
    scene = next(scene for scene in read_scenes(sample_items) if scene.tile == "22KFV")
    first = read(scene, sample_items.parent)
    published = sample_items.parent.parent / "published.tif"
    published.write_bytes(build_probability_cog(first.probability_pct, scene.grid))
    again = read(with_asset(scene, "cloud-probability", str(published)), sample_items.parent.parent)
    np.testing.assert_array_equal(again.probability_pct, first.probability_pct)
    np.testing.assert_array_equal(again.coarse_probability_pct, first.coarse_probability_pct)


@pytest.mark.parametrize("value", [101, 200, 254])
def test_a_probability_that_is_none_is_named(scene: Scene, tmp_path: Path, value: int):
    fine = np.full((6, 14), 255, np.uint8)
    fine[2:4, 8:10] = value
    scene = with_asset(scene, "cloud-probability", write_raster(tmp_path / "q.tif", fine, 10, nodata=255))
    with pytest.raises(AssetRefused, match="item S2B_TEST: asset cloud-probability holds more than 100"):
        read(scene, tmp_path)


@pytest.mark.parametrize("key", ["cloud-probability", "B08", "SCL"])
def test_a_missing_asset_is_named(scene: Scene, tmp_path: Path, key: str):
    assert has_own_inputs(scene)
    scene = with_asset(scene, key, None)
    assert not has_own_inputs(scene)
    with pytest.raises(MissingField, match=rf"^item S2B_TEST: assets\.{key} is missing"):
        read(scene, tmp_path)


@pytest.mark.parametrize(
    ("key", "dtype"), [("cloud-probability", np.uint16), ("SCL", np.int16), ("B08", np.uint8)]
)
def test_an_asset_of_another_type_is_named(scene: Scene, tmp_path: Path, key: str, dtype: type[np.generic]):
    shape = (3, 7) if key == "SCL" else (6, 14)
    href = write_raster(tmp_path / "odd.tif", np.ones(shape, dtype), 20 if key == "SCL" else 10)
    with pytest.raises(AssetRefused, match=f"^item S2B_TEST: asset {key} holds {np.dtype(dtype)}, not"):
        read(with_asset(scene, key, href), tmp_path)
