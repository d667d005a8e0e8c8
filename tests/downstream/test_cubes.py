"""odc-stac and stackstac load a mask with a band of the same item on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
import stackstac

pytestmark = pytest.mark.slow

# odc-stac leaves out assets with the role "overview", which STAC Browser draws, unless they are named.
ODC_STAC_CONFIG = {"sentinel-2-l2a-cloudmask": {"assets": {"cloudmask": {"data_type": "uint8", "nodata": 0}}}}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def find_band(item: pystac.Item, name: str) -> np.ndarray:
    return read(Path(item.assets[name].get_absolute_href() or ""))


@pytest.mark.parametrize("resolution", [10, 20])
def test_odc_stac_loads_classes_beside_reflectances(brazil: list[pystac.Item], resolution: int) -> None:
    cube = odc.stac.load(
        brazil,
        bands=["cloudmask", "B04"],
        resolution=resolution,
        resampling={"cloudmask": "mode", "B04": "nearest"},
        stac_cfg=ODC_STAC_CONFIG,
        chunks={},
    )
    assert cube.cloudmask.dtype == np.uint8
    assert cube.cloudmask.shape == cube.B04.shape == (3, 18_000 // resolution, 18_000 // resolution)
    assert cube.odc.crs.epsg == 32722
    for index, item in enumerate(brazil):
        published = find_band(item, "cloudmask").repeat(20 // resolution, 0).repeat(20 // resolution, 1)
        np.testing.assert_array_equal(cube.cloudmask[index].values, published)
        if resolution == 10:
            np.testing.assert_array_equal(np.nan_to_num(cube.B04[index].values), find_band(item, "B04"))


def test_three_lines_mask_a_cube(brazil: list[pystac.Item]) -> None:
    cube = odc.stac.load(brazil, bands=["B04", "cloudmask"], stac_cfg=ODC_STAC_CONFIG, chunks={})
    clear = cube.where(cube.cloudmask == 1)
    red = clear.B04.median("time").values
    assert np.nanmax(red) < cube.B04.max().values
    assert np.isfinite(red).mean() > 0.99


def test_stackstac_stacks_them_on_one_grid(brazil: list[pystac.Item]) -> None:
    items = [item.clone() for item in brazil]
    for item, original in zip(items, brazil, strict=True):
        item.set_self_href(original.get_self_href())
        item.make_asset_hrefs_absolute()
    stack = stackstac.stack(
        items,
        assets=["cloudmask", "B04"],
        epsg=32722,  # stackstac does not know proj:code
        resolution=20,
        bounds=(600_000, 7_482_040, 618_000, 7_500_040),
        dtype="uint16",
        fill_value=np.uint16(0),
        rescale=False,
    )
    assert stack.shape == (3, 2, 900, 900)
    masks = stack.sel(band="cloudmask").values
    for index, item in enumerate(brazil):
        np.testing.assert_array_equal(masks[index], find_band(item, "cloudmask"))
    assert (stack.sel(band="B04").values[masks == 1] > 0).all()
