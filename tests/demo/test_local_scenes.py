"""The sample archive: what it holds, and that it is made once, whole and alike every time."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from numpy.typing import NDArray
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.warp import transform_geom
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage

from pc_cloudmask.demo.archive import build_sample_archive
from pc_cloudmask.demo.scenes import SAMPLE_SCENES, WINDOW_PX, SampleScene, Truth
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.scene.scene import reflectance_offset_dn
from tests.sample_archive import read_items, read_pixels, read_scenes

WATER = 6
by_id = pytest.mark.parametrize("sample", SAMPLE_SCENES, ids=lambda sample: sample.id)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def find_item(items: Path, sample: SampleScene) -> dict[str, Any]:
    return next(item for item in read_items(items) if item["id"] == sample.id)


def read_asset(items: Path, sample: SampleScene, key: str) -> NDArray[Any]:
    return read_pixels(find_item(items, sample)["assets"][key]["href"])


class TestBuilding:
    @pytest.mark.slow
    def test_a_damaged_archive_is_made_anew_with_the_same_bytes(self, sample_items: Path, tmp_path: Path):
        folder = tmp_path / "archive"
        shutil.copytree(sample_items.parent, folder)
        first, second, *_ = sorted(folder.rglob("*.tif"))
        first.unlink()
        second.write_bytes(second.read_bytes()[:-1])

        assert build_sample_archive(folder) == folder / "items.json"
        assert digests(folder) == digests(sample_items.parent)
        assert [path.name for path in tmp_path.iterdir()] == ["archive"]

    def test_a_complete_archive_is_left_alone(self, sample_items: Path):
        before = {path: path.stat().st_mtime_ns for path in sample_items.parent.rglob("*")}
        assert build_sample_archive(sample_items.parent) == sample_items
        assert {path: path.stat().st_mtime_ns for path in sample_items.parent.rglob("*")} == before

    def test_a_folder_with_other_files_is_refused_and_kept(self, tmp_path: Path):
        (tmp_path / "thesis.txt").write_text("four years of work")
        with pytest.raises(SettingsError, match="is no sample archive and not empty; name a new"):
            build_sample_archive(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path):
        (tmp_path / "file").touch()
        with pytest.raises(SettingsError, match="cannot be written: Not a directory"):
            build_sample_archive(tmp_path / "file" / "folder" / "archive")

    def test_it_is_small(self, sample_items: Path):
        assert sum(path.stat().st_size for path in sample_items.parent.rglob("*.tif")) < 45e6


class TestItems:
    def test_three_scenes_of_each_of_two_tiles_say_that_they_are_synthetic(self, sample_items: Path):
        items = read_items(sample_items)
        assert len({item["id"] for item in items}) == len(items)
        tiles = Counter(item["properties"]["s2:mgrs_tile"] for item in items)
        assert tiles == {"22KFV": 3, "33UUP": 3}
        assert all(item["properties"]["synthetic"] is True for item in items)
        assert all(item["properties"]["description"].startswith("Synthetic") for item in items)

    def test_hrefs_are_relative_to_the_collection(self, sample_items: Path):
        for item in json.loads(sample_items.read_bytes())["features"]:
            for asset in item["assets"].values():
                assert asset["href"].startswith(f"{item['id']}/")
                assert (sample_items.parent / asset["href"]).is_file()

    @by_id
    def test_they_become_scenes(self, sample_items: Path, sample: SampleScene):
        scene = next(scene for scene in read_scenes(sample_items) if scene.id == sample.id)
        assert scene.tile == sample.tile.name
        assert scene.datetime.replace(microsecond=0) == sample.datetime
        assert scene.grid == sample.tile.grid()
        assert scene.grid.shape == (WINDOW_PX, WINDOW_PX)
        assert (scene.solar_azimuth_deg, scene.solar_zenith_deg) == (
            sample.solar_azimuth_deg,
            sample.solar_zenith_deg,
        )
        assert scene.processing_baseline == sample.processing_baseline

    @by_id
    def test_the_footprint_is_the_ground_that_has_data(self, sample_items: Path, sample: SampleScene):
        item = find_item(sample_items, sample)
        polygon = transform_geom("EPSG:4326", f"EPSG:{sample.tile.epsg}", item["geometry"])
        x, y = np.array(polygon["coordinates"][0]).T
        area_m2 = np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2
        valid_m2 = np.count_nonzero(read_asset(sample_items, sample, "SCL")) * 20**2
        assert area_m2 == pytest.approx(valid_m2, rel=1e-3)  # positive: counterclockwise
        lon, lat = np.array(item["geometry"]["coordinates"][0]).T
        assert item["bbox"] == [lon.min(), lat.min(), lon.max(), lat.max()]

    @pytest.mark.shared
    def test_they_have_every_property_of_a_real_item(self, sample_items: Path, shared_data: Path):
        real = json.loads(next((shared_data / "pc-items").glob("S2*.json")).read_bytes())
        for item in read_items(sample_items):
            missing = set(real["properties"]) - set(item["properties"])
            assert missing == {"s2:reflectance_conversion_factor"}
            for key in set(item["assets"]) & set(real["assets"]):
                assert item["assets"][key].keys() == real["assets"][key].keys()
                assert item["assets"][key].get("eo:bands") == real["assets"][key].get("eo:bands")

    @pytest.mark.shared
    def test_they_are_valid(self, sample_items: Path, shared_data: Path):
        validator = JsonSchemaSTACValidator()
        for name in ("eo", "sat", "projection"):
            uri = f"https://stac-extensions.github.io/{name}/v1.0.0/schema.json"
            schema = (shared_data / "stac-schemas" / f"{name}_v1.0.0.json").read_bytes()
            validator.schema_cache[uri] = json.loads(schema)
        for item in read_items(sample_items):
            pystac.Item.from_dict(item, migrate=False).validate(validator=validator)


class TestRasters:
    @by_id
    def test_they_have_the_grid_that_the_item_claims(self, sample_items: Path, sample: SampleScene):
        for key, asset in find_item(sample_items, sample)["assets"].items():
            with rasterio.open(asset["href"]) as dataset:
                assert dataset.crs.to_epsg() == sample.tile.epsg
                if key != "preview":
                    assert list(dataset.shape) == asset["proj:shape"]
                    assert list(dataset.transform)[:6] == asset["proj:transform"]
                    assert list(dataset.bounds) == asset["proj:bbox"]
                    assert dataset.res == (asset["gsd"], asset["gsd"])
                assert dataset.dtypes[0] == ("uint16" if key.startswith("B") else "uint8")
                assert dataset.nodata == (255 if key == "cloud-probability" else 0)

    def test_they_are_cloud_optimised(self, sample_items: Path):
        for asset in read_items(sample_items)[0]["assets"].values():
            valid, errors, warnings = cog_validate(asset["href"], strict=True)
            assert (valid, errors, warnings) == (True, [], [])

    @pytest.mark.slow
    @by_id
    def test_every_band_agrees_on_the_swath(self, sample_items: Path, sample: SampleScene):
        valid = read_asset(sample_items, sample, "truth") != 0
        assert valid.all() == (sample.swath_edge_m is None)
        valid_10m = valid.repeat(2, axis=0).repeat(2, axis=1)
        for key in ("B11", "B12", "SCL"):
            np.testing.assert_array_equal(read_asset(sample_items, sample, key) != 0, valid)
        for key in ("B02", "B03", "B04", "B08"):
            np.testing.assert_array_equal(read_asset(sample_items, sample, key) != 0, valid_10m)
        for band in read_asset(sample_items, sample, "visual"):
            np.testing.assert_array_equal(band != 0, valid_10m)
        probability = read_asset(sample_items, sample, "cloud-probability")
        np.testing.assert_array_equal(probability != 255, valid_10m)
        assert probability[valid_10m].max() <= 100

    def test_a_wedge_lies_outside_the_swath_of_one_scene(self):
        assert [sample.swath_edge_m is not None for sample in SAMPLE_SCENES].count(True) == 1

    def test_the_offset_of_the_baseline_is_in_the_digital_numbers(self, sample_items: Path):
        old, new, _ = (sample for sample in SAMPLE_SCENES if sample.tile.name == "33UUP")
        assert (old.processing_baseline, new.processing_baseline) == ("03.01", "04.00")
        clear = (read_asset(sample_items, old, "truth") == 1) & (read_asset(sample_items, new, "truth") == 1)
        red = [read_asset(sample_items, sample, "B04")[::2, ::2][clear].mean() for sample in (old, new)]
        offsets = [reflectance_offset_dn(sample.processing_baseline) for sample in (old, new)]
        assert offsets == [0, -1000]
        assert red[1] + offsets[1] == pytest.approx(red[0] + offsets[0], rel=0.1)  # the season greens it


class TestTruth:
    @by_id
    def test_shadows_are_the_clouds_moved_away_from_the_sun(self, sample_items: Path, sample: SampleScene):
        truth = read_asset(sample_items, sample, "truth")
        rows, cols = expected_shift_px(sample)
        assert 700 < math.hypot(rows, cols) * 20 < 1000, "the algorithm looks no further"
        share = shadowed_share(truth, rows, cols)
        assert share > 0.97
        for wrong in ((-rows, -cols), (cols, rows), (rows * 1.5, cols * 1.5)):
            assert shadowed_share(truth, *wrong) < share - 0.1

    def test_the_sun_stands_in_two_quadrants(self):
        assert {int(sample.solar_azimuth_deg // 90) for sample in SAMPLE_SCENES} == {0, 1}

    @by_id
    def test_shadow_darkens_land_below_the_threshold(self, sample_items: Path, sample: SampleScene):
        truth, reflectance = read_asset(sample_items, sample, "truth"), read_nir(sample_items, sample)
        core = ndimage.binary_erosion(truth == Truth.SHADOW_ON_LAND, iterations=5)
        assert (reflectance[core] < 0.15).mean() > 0.95
        assert np.median(reflectance[truth == Truth.CLEAR]) > 0.2

    @by_id
    def test_darkness_alone_does_not_tell_a_shadow(self, sample_items: Path, sample: SampleScene):
        clear = read_asset(sample_items, sample, "truth") == Truth.CLEAR
        water = read_asset(sample_items, sample, "SCL") == WATER
        dark = read_nir(sample_items, sample) < 0.15
        assert np.count_nonzero(clear & water & dark) > 5_000
        assert np.count_nonzero(clear & ~water & dark) > 1_000

    @by_id
    def test_shadow_on_water_is_told_apart(self, sample_items: Path, sample: SampleScene):
        scene_classes = read_asset(sample_items, sample, "SCL")
        truth = read_asset(sample_items, sample, "truth")
        assert not (truth[scene_classes == WATER] == Truth.SHADOW_ON_LAND).any()
        assert set(scene_classes[truth == Truth.SHADOW_ON_WATER]) <= {WATER, 8}, "or thin cloud over it"

    @pytest.mark.parametrize("tile", ["22KFV", "33UUP"])
    def test_a_cloud_stands_over_water_and_shades_it(self, sample_items: Path, tile: str):
        truths = [
            read_pixels(scene.asset_hrefs["truth"])
            for scene in read_scenes(sample_items)
            if scene.tile == tile
        ]
        assert max(np.count_nonzero(truth == Truth.SHADOW_ON_WATER) for truth in truths) > 2_000

    def test_haze_is_blue_and_shows_the_ground(self, sample_items: Path):
        (sample,) = (sample for sample in SAMPLE_SCENES if sample.haze)
        truth = read_asset(sample_items, sample, "truth")
        haze, clear = truth == Truth.HAZE, truth == Truth.CLEAR
        assert np.count_nonzero(haze) > 20_000
        blue, red = (read_asset(sample_items, sample, band)[::2, ::2].astype(int) for band in ("B02", "B04"))
        assert (blue - red)[haze].mean() > (blue - red)[clear].mean() + 50
        probability = read_asset(sample_items, sample, "cloud-probability")[::2, ::2]
        assert 10 < np.median(probability[haze]) < 50

    @pytest.mark.parametrize("tile", ["22KFV", "33UUP"])
    def test_a_plain_median_of_the_dates_is_cloudy_though_each_place_is_clear_once(
        self, sample_items: Path, tile: str
    ):
        truths = [
            read_pixels(scene.asset_hrefs["truth"])
            for scene in read_scenes(sample_items)
            if scene.tile == tile
        ]
        covered = np.sum([np.isin(truth, COVERED) for truth in truths], axis=0)
        assert (covered == len(truths)).mean() < 0.001
        assert (covered >= 2).mean() > 0.08


COVERED = (Truth.CLOUD, Truth.SHADOW_ON_LAND, Truth.SHADOW_ON_WATER)


def expected_shift_px(sample: SampleScene) -> tuple[float, float]:
    """Rows and columns from a cloud to its shadow, from the definition: opposite to the sun."""
    length_px = sample.cloud_height_m * math.tan(math.radians(sample.solar_zenith_deg)) / 20
    direction = math.radians(sample.solar_azimuth_deg + 180)
    return -math.cos(direction) * length_px, math.sin(direction) * length_px


def shadowed_share(truth: NDArray[np.uint8], rows: float, cols: float) -> float:
    """Of the ground under the moved clouds that no cloud hides, what is in shadow."""
    core = ndimage.binary_erosion(truth == Truth.CLOUD, iterations=2)
    moved = ndimage.shift(core, (round(rows), round(cols)), order=0)
    seen = truth[moved & (truth != Truth.NO_DATA) & (truth != Truth.CLOUD)]
    return float(np.isin(seen, (Truth.SHADOW_ON_LAND, Truth.SHADOW_ON_WATER)).mean())


def read_nir(items: Path, sample: SampleScene) -> NDArray[np.float64]:
    """Reflectance at 20 m, means of four pixels."""
    band = read_asset(items, sample, "B08").astype(np.float64)
    mean = band.reshape(WINDOW_PX, 2, WINDOW_PX, 2).mean(axis=(1, 3))
    return np.where(mean > 0, (mean + reflectance_offset_dn(sample.processing_baseline)) / 10_000, np.nan)
