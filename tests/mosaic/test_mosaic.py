"""Mosaics of the demo's catalog."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from rio_cogeo import cog_validate

from pc_cloudmask.errors import AssetRefused, SettingsError
from pc_cloudmask.mosaic.compose import Reducer
from pc_cloudmask.mosaic.mosaic import MosaicReport, build_mosaic
from pc_cloudmask.mosaic.plan import MosaicRequest, leave_out, plan_mosaic
from pc_cloudmask.scene.query import build_query
from pc_cloudmask.settings import read_settings
from pc_cloudmask.storage.stores import open_reader
from tests.offline_validator import OfflineValidator
from tests.published_demo import copy_catalog

# A corner of the Brazilian window with clouds of two dates, 3.1 x 2.8 km.
CORNER = "-49.995,-22.63,-49.965,-22.605"
BAVARIA = "12.30,48.66,12.34,48.68"


def make(store: Path | str, out: Path, **options: Any) -> MosaicReport:
    """A mosaic as the command makes it."""
    criteria = {name: options.pop(name) for name in ("bbox", "tiles", "datetime") if name in options}
    request = MosaicRequest(out=out, query=build_query(**criteria), **options)
    reader = open_reader(str(store))
    return build_mosaic(reader, read_settings(), request, plan_mosaic(reader, request))


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.fixture(scope="module")
def brazil(published_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> MosaicReport:
    """The whole Brazilian window at 20 m with everything beside it."""
    return make(
        published_demo,
        tmp_path_factory.mktemp("brazil") / "mosaic.tif",
        tiles=["22KFV"],
        pixel_size_m=20.0,
        plain_median=True,
        truth="truth",
    )


@pytest.mark.slow
def test_the_mosaic_is_cloudless_where_a_plain_median_is_not(brazil: MosaicReport) -> None:
    assert brazil.filled_pct > 99
    assert brazil.mosaic.residual_pct <= 1
    assert brazil.plain is not None
    assert brazil.plain.residual_pct > 10 * brazil.mosaic.residual_pct
    assert brazil.plain.residual_pct > 10, "the scene is cloudy enough to tell"


@pytest.mark.slow
@pytest.mark.parametrize("reducer", [Reducer.LEAST_CLOUDY, Reducer.MOST_RECENT_CLEAR])
def test_other_reducers_are_cloudless_too_and_across_baselines(
    published_demo: Path, tmp_path: Path, reducer: Reducer
) -> None:
    report = make(
        published_demo,
        tmp_path / "m.tif",
        tiles=["33UUP"],
        reducer=reducer,
        bands=("B12",),
        truth="truth",
    )
    assert report.filled_pct > 99
    assert report.mosaic.residual_pct <= 5, "haze, which the masks leave"


def test_baselines_are_harmonised(published_demo: Path, tmp_path: Path) -> None:
    """The later scene's numbers are 1000 higher; its ground is but a little greener."""
    means = []
    for year in ("2021", "2022-06"):
        make(published_demo, tmp_path / "m.tif", bbox=BAVARIA, datetime=year, bands=("B04",))
        red, count = read(tmp_path / "m.tif")
        means.append(red[count > 0].mean())
    assert means[1] == pytest.approx(means[0], rel=0.15)


def test_the_raster_is_a_cog_with_named_bands_and_a_count(brazil: MosaicReport) -> None:
    valid, errors, warnings = cog_validate(brazil.files.raster)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(brazil.files.raster) as dataset:
        assert dataset.descriptions == ("B04", "B03", "B02", "count")
        assert (dataset.nodata, dataset.dtypes[0], dataset.shape) == (0, "uint16", (900, 900))
        assert dataset.scales == (0.0001, 0.0001, 0.0001, 1.0)
        assert dataset.tags()["REDUCER"] == "median"
        pixels = dataset.read()
    assert set(np.unique(pixels[3])) == {1, 2, 3}
    np.testing.assert_array_equal(pixels[:3].all(axis=0), pixels[3] > 0)


def test_the_item_is_valid_and_leads_back_to_its_sources(
    brazil: MosaicReport, published_demo: Path, stac_validator: OfflineValidator
) -> None:
    document = json.loads(brazil.files.item.read_bytes())
    item = pystac.Item.from_dict(document, href=str(brazil.files.item))
    item.validate(validator=stac_validator)
    derived = [link.get_absolute_href() for link in item.links if link.rel == "derived_from"]
    assert len(derived) == 3
    for href in derived:
        assert href is not None
        assert Path(href).is_relative_to(published_demo)
        assert json.loads(Path(href).read_bytes())["properties"]["s2:mgrs_tile"] == "22KFV"
    assert item.properties["start_datetime"] == "2018-06-17T13:32:21Z"
    assert set(item.assets) == {"mosaic", "thumbnail", "plain-median", "plain-median-preview"}
    for asset in item.assets.values():
        path = Path(asset.get_absolute_href() or "")
        assert path.stat().st_size == asset.extra_fields["file:size"]
    assert document["bbox"] == pytest.approx([-50.027, -22.767, -49.850, -22.602], abs=2e-3)


def test_previews_are_pictures_of_the_same_size_and_stretch(brazil: MosaicReport) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        mosaic, plain = read(brazil.files.preview), read(brazil.files.plain_preview)
    assert mosaic.shape == plain.shape == (4, 900, 900)
    same = (mosaic == plain).all(axis=0).mean()
    assert 0.3 < same < 0.8, "clouds aside both show the same"


def test_the_same_request_gives_the_same_bytes(published_demo: Path, tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        report = make(published_demo, tmp_path / "m.tif", bbox=CORNER, bands=("B11",))
        files = (report.files.raster, report.files.preview, report.files.item)
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.png", "m.tif"]


@pytest.mark.slow
def test_a_box_and_another_zone_give_the_pixels_of_the_tile(
    brazil: MosaicReport, published_demo: Path, tmp_path: Path
) -> None:
    report = make(published_demo, tmp_path / "m.tif", bbox=CORNER, pixel_size_m=20.0)
    west, north = report.plan.grid.transform[2], report.plan.grid.transform[5]
    row, col = round((7_500_040 - north) / 20), round((west - 600_000) / 20)
    height, width = report.plan.grid.shape
    whole = read(brazil.files.raster)[:, row : row + height, col : col + width]
    np.testing.assert_array_equal(read(tmp_path / "m.tif"), whole)

    report = make(
        published_demo, tmp_path / "z.tif", bbox=CORNER, pixel_size_m=20.0, crs="EPSG:32723", truth="truth"
    )
    warped = read(tmp_path / "z.tif")
    assert report.plan.grid.crs == "EPSG:32723"
    assert report.mosaic.residual_pct <= 1
    held = warped[3] > 0
    assert warped[0][held].mean() == pytest.approx(whole[0][whole[3] > 0].mean(), rel=0.05)


def test_pixels_that_no_date_shows_clear_have_no_value(published_demo: Path, tmp_path: Path) -> None:
    report = make(published_demo, tmp_path / "m.tif", tiles=["22KFV"], datetime="2018-12", bands=("B11",))
    swir, count = read(tmp_path / "m.tif")
    (mask,) = published_demo.glob("sentinel-2-l2a-cloudmask/22K/22KFV/2018/*20181214*/cloudmask-*.tif")
    clear = read(mask)[0] == 1
    np.testing.assert_array_equal(count > 0, clear)
    np.testing.assert_array_equal(swir > 0, clear)
    assert 50 < report.filled_pct < 65


def test_the_mosaic_is_what_numpy_makes_of_the_files(published_demo: Path, tmp_path: Path) -> None:
    """Masks of 20 m on bands of 10 m, computed again without odc-stac, GDAL's warper and our reducers."""
    report = make(published_demo, tmp_path / "m.tif", bbox=CORNER, bands=("B04",))
    (height, width), (west, _, _, north) = report.plan.grid.shape, report.plan.grid.bounds
    seen = []
    for each in report.plan.observations:
        with rasterio.open(each.hrefs["B04"]) as dataset:
            row, col = dataset.index(west + 5, north - 5)
            values = dataset.read(1)
        classes = read(published_demo / each.mask_key)[0].repeat(2, axis=0).repeat(2, axis=1)
        place = (slice(row, row + height), slice(col, col + width))
        seen.append(np.where(classes[place] == 1, values[place], 0).astype(float))
    stack = np.ma.masked_equal(seen, 0)
    values, count = read(tmp_path / "m.tif")
    np.testing.assert_array_equal(count, stack.count(axis=0))
    np.testing.assert_array_equal(values, np.floor(np.ma.median(stack, axis=0).filled(0) + 0.5))


def test_a_coarse_mosaic_has_no_edges_of_clouds(published_demo: Path, tmp_path: Path) -> None:
    report = make(published_demo, tmp_path / "m.tif", tiles=["22KFV"], pixel_size_m=120.0, truth="truth")
    assert report.plan.grid.shape == (150, 150)
    assert report.filled_pct > 97
    assert report.mosaic.residual_pct <= 1.5, "shadow on water, which the masks leave"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"tiles": ["34HCH"]}, "matches"),
        ({"tiles": ["22KFV"], "datetime": "2019"}, "matches"),
        ({"tiles": ["22KFV"], "max_cloud_pct": 1.0}, "matches"),
        ({"tiles": ["22KFV"], "bands": ("B05",)}, "no asset B05; it has B02"),
        ({"tiles": ["22KFV"], "bands": ("visual",)}, "visual"),
        ({"tiles": ["22KFV"], "bands": ("B04", "B04")}, "twice"),
        ({"tiles": ["22KFV"], "bands": ()}, "--bands"),
        ({"tiles": ["22KFV"], "truth": "absent"}, "no asset absent"),
        ({"tiles": ["22KFV"], "files": Path("absent")}, "--files"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(
    published_demo: Path, tmp_path: Path, options: dict[str, Any], hint: str
) -> None:
    with pytest.raises(SettingsError) as error:
        make(published_demo, tmp_path / "m.tif", **options)
    assert hint in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["m.png", "absent/m.tif"])
def test_where_the_mosaic_cannot_go_is_said_before_anything_is_read(out: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--out"):
        make(tmp_path, tmp_path / out, tiles=["22KFV"])


def test_only_a_mosaics_item_is_written_over(published_demo: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bbox": CORNER, "bands": ("B04",), "pixel_size_m": 100.0}
    for _ in range(2):
        make(published_demo, tmp_path / "m.tif", **options)
    (tmp_path / "field.json").write_text('{"type": "Polygon"}')
    with pytest.raises(SettingsError, match=r"field\.json next to it .* would be lost"):
        make(published_demo, tmp_path / "field.tif", **options)
    assert (tmp_path / "field.json").read_text() == '{"type": "Polygon"}'


def test_a_failure_leaves_an_older_mosaic_alone(published_demo: Path, tmp_path: Path) -> None:
    store = copy_catalog(published_demo, tmp_path / "store")
    out = tmp_path / "m.tif"
    out.write_bytes(b"older")
    for path in (tmp_path / "store" / "sample-archive").rglob("*_B11_20m.tif"):
        path.unlink()
        path.write_text("<VRTDataset/>")
    with pytest.raises(AssetRefused, match=r"item S2B_MSIL2A_2018\w+: .*B11_20m.tif: not a TIFF"):
        make(store, out, bbox=CORNER, bands=("B11",))
    assert out.read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "store"]


def cut(path: Path) -> None:
    body = path.read_bytes()
    path.unlink()  # it may be a link to the demo's own
    path.write_bytes(body[: len(body) // 2])


def name_another_crs(path: Path) -> None:
    with rasterio.open(path) as dataset:
        pixels, profile = dataset.read(), {**dataset.profile, "crs": "EPSG:32701"}
    path.unlink()
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)


BROKEN: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a band gone": ("sample-archive/**/*20181214*_B11_20m.tif", Path.unlink),
    "a band cut short": ("sample-archive/**/*20181214*_B11_20m.tif", cut),
    "a band in another CRS": ("sample-archive/**/*20181214*_B11_20m.tif", name_another_crs),
    "the mask gone": ("**/S2*20181214*/cloudmask-*.tif", Path.unlink),
    "the mask cut short": ("**/S2*20181214*/cloudmask-*.tif", cut),
    "the item gone": ("**/S2*20181214*/S2*.json", Path.unlink),
    "the item cut short": ("**/S2*20181214*/S2*.json", cut),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_a_scene_that_cannot_be_read_costs_itself_alone_and_is_named(
    published_demo: Path, tmp_path: Path, fault: str
) -> None:
    options: dict[str, Any] = {"bbox": CORNER, "bands": ("B11",), "plain_median": True}
    pattern, spoil = BROKEN[fault]
    store = copy_catalog(published_demo, tmp_path / "store")
    for path in [each for each in store.glob(pattern) if "22KFV" in str(each)]:
        spoil(path)
    report = make(store, tmp_path / "m.tif", **options)
    (left_out,) = report.as_json()["left_out"]
    assert left_out["id"].startswith("S2B_MSIL2A_20181214T")
    assert "\n" not in left_out["error"]
    item = json.loads(report.files.item.read_text())
    assert item["properties"]["left_out"] == [left_out["id"]]
    assert left_out["id"] not in json.dumps(item["links"])
    request = MosaicRequest(tmp_path / "n.tif", build_query(bbox=CORNER), ("B11",), plain_median=True)
    reader = open_reader(str(published_demo))
    others = leave_out(plan_mosaic(reader, request), request, {left_out["id"]: AssetRefused()})
    expected = build_mosaic(reader, read_settings(), request, others)
    np.testing.assert_array_equal(read(report.files.raster), read(expected.files.raster))
    np.testing.assert_array_equal(read(report.files.plain), read(expected.files.plain))


def test_source_files_outside_of_the_store_are_read_only_where_they_were_named(
    published_demo: Path, tmp_path: Path
) -> None:
    store = copy_catalog(published_demo, tmp_path / "store")
    (store / "sample-archive").rename(tmp_path / "archive")
    for path in store.rglob("S2*.json"):
        text = path.read_text("utf-8").replace("/sample-archive/", "/../archive/")
        path.write_text(text, "utf-8")
    with pytest.raises(AssetRefused, match=r"local files are read only|leads out of"):
        make(store, tmp_path / "m.tif", bbox=CORNER, bands=("B11",))
    report = make(store, tmp_path / "m.tif", bbox=CORNER, bands=("B11",), files=tmp_path / "archive")
    assert report.filled_pct > 99
