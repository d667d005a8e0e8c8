"""Masks and masked bands as arrays that know where they are."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import odc.geo.xr
import odc.stac
import orjson
import pytest
import rasterio
import stackstac
import xarray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from pc_cloudmask import find_items, load_cube, read_mask
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import CLASS_STYLES
from tests.direct_runs import ignore_warnings_of_odc
from tests.published_demo import copy_catalog

pytestmark = [
    pytest.mark.slow,
    # rasterio's own, of arrays that it warps
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


def read(href: str) -> np.ndarray:
    with rasterio.open(href) as dataset:
        return dataset.read(1)


@ignore_warnings_of_odc
def test_a_mask_knows_where_it_is(out: Path) -> None:
    item = find_items("22KFV", store=str(out))[-1]
    mask = read_mask(item)
    with rasterio.open(item.assets["cloudmask"].href) as dataset:
        assert np.array_equal(mask.values, dataset.read(1))
        assert mask.odc.crs.epsg == dataset.crs.to_epsg()
        assert mask.odc.geobox.transform == dataset.transform
        assert mask.attrs["transform"] == tuple(dataset.transform)[:6]
        assert (mask.x[3].item(), mask.y[5].item()) == dataset.xy(5, 3)
    assert mask.odc.nodata == mask.attrs["nodata"] == 0
    assert mask.attrs["crs"] == "EPSG:32722"
    assert mask.attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert mask.attrs["flag_meanings"].split() == [style.name for style in CLASS_STYLES.values()]
    assert mask.time.dt.date.item() == item.datetime.date()
    # A band that rioxarray reads has the same scalar, so that xarray keeps it where the two are combined.
    band = mask.astype(np.float32).assign_coords(spatial_ref=0)
    assert "spatial_ref" in band.where(mask == 1).coords
    # The kind of code that was written for an array of numpy.
    assert int(np.count_nonzero(mask == 2)) == int((mask.values == 2).sum())
    assert (mask.dtype, mask.shape, mask[0, 0].item()) == (np.uint8, (900, 900), mask.values[0, 0])


@ignore_warnings_of_odc
def test_plain_odc_stac_and_stackstac_need_no_configuration(out: Path) -> None:
    items = find_items("22KFV", store=str(out))
    cube = odc.stac.load(items, bands=["B04", "cloudmask"], resolution=20, groupby="id")
    kinds = {"dtype": "uint8", "fill_value": np.uint8(0), "rescale": False}
    stack = stackstac.stack(items, assets=["cloudmask"], **kinds)
    assert cube.cloudmask.dtype == np.uint8
    assert stack.attrs["spec"].epsg == 32722
    for number, item in enumerate(items):
        mask = read_mask(item).values
        assert np.array_equal(cube.cloudmask.values[number], mask)
        assert np.array_equal(stack.values[number, 0], mask)


@ignore_warnings_of_odc
@pytest.mark.parametrize("resolution", [10, 20, 60])
def test_a_cube_is_masked_reflectance(out: Path, resolution: int) -> None:
    items = find_items("22KFV", store=str(out))
    side = 18_000 // resolution
    place = GeoBox((side, side), Affine(resolution, 0, 600_000, 0, -resolution, 7_500_040), "EPSG:32722")
    cube = load_cube(items, ["B04", "B03"] if resolution == 20 else "B04", geobox=place)
    assert dask.is_dask_collection(cube)
    assert cube.odc.crs.epsg == 32722
    cube = cube.compute()
    assert cube.B04.dtype == np.float32
    for number, item in enumerate(items):
        mask, band = read_mask(item).values, read(item.assets["B04"].href)
        if resolution == 10:
            mask = mask.repeat(2, 0).repeat(2, 1)
        else:
            factor = resolution // 10
            cells = band.reshape(band.shape[0] // factor, factor, -1, factor)
            counts = np.maximum((cells > 0).sum((1, 3)), 1)
            band = cells.sum((1, 3)) / counts
            if resolution == 60:
                mask = mask.reshape(300, 3, 300, 3).max((1, 3))
        assert np.array_equal(cube.cloudmask.values[number], mask)
        expected = np.where((mask == 1) & (band > 0), band / 10_000, np.nan)
        found = cube.B04.values[number]
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        if resolution == 60:  # bands are read through their overviews
            assert np.nanmean(np.abs(found - expected)) < 2e-3
        else:
            np.testing.assert_allclose(found, expected, atol=0.6e-4)


@ignore_warnings_of_odc
def test_baselines_are_made_alike_and_classes_chosen(out: Path, tmp_path: Path) -> None:
    root = copy_catalog(out, tmp_path / "out")
    (path,) = (root / "sentinel-2-l2a-cloudmask").rglob("S2B_MSIL2A_20180915*.json")
    document = orjson.loads(path.read_bytes())
    document["properties"]["s2:processing_baseline"] = "05.10"
    path.write_bytes(orjson.dumps(document))
    plain = load_cube(find_items("22KFV", store=str(out)), "B04", resolution=60, keep=(1, 2, 3)).B04.compute()
    mixed = load_cube(
        find_items("22KFV", store=str(root)), "B04", resolution=60, keep=(1, 2, 3)
    ).B04.compute()
    assert plain.time.equals(mixed.time)
    np.testing.assert_allclose(mixed[1], plain[1] - 0.1, atol=1e-6)
    np.testing.assert_array_equal(mixed[[0, 2]], plain[[0, 2]])
    clear = load_cube(find_items("22KFV", store=str(out)), "B04", resolution=60).B04
    assert float(clear.notnull().mean()) < float(plain.notnull().mean())


def test_nothing_and_what_is_no_reflectance_are_refused(out: Path) -> None:
    with pytest.raises(SettingsError, match="no items"):
        load_cube([], "B04")
    with pytest.raises(SettingsError, match="SCL"):
        load_cube(find_items("22KFV", store=str(out)), ["B04", "SCL"])
    with pytest.raises(SettingsError, match="no item has an asset B09"):
        load_cube(find_items("22KFV", store=str(out)), ["B04", "B09"])


@ignore_warnings_of_odc
def test_masks_of_one_grid_make_a_stack(out: Path) -> None:
    masks = [read_mask(item) for item in find_items("22KFV", store=str(out))]
    stack = xarray.concat(masks, "time")
    assert stack.dims == ("time", "y", "x")
    assert stack.odc.crs.epsg == 32722
