"""What GDAL is told of this process's environment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio.env
import rasterio.session

from pc_cloudmask.masking.files import build_mask_cog
from pc_cloudmask.raster.gdal import gdal_environment
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.source.assets import AssetReader

GRID = Grid("EPSG:32722", (20.0, 0.0, 600000.0, 0.0, -20.0, 7500040.0), (600, 700))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_options_arrive_and_secrets_do_not() -> None:
    with gdal_environment(GDAL_TIFF_OVR_BLOCKSIZE=512):
        options = rasterio.env.getenv()
    assert options["GDAL_TIFF_OVR_BLOCKSIZE"] == 512
    assert not [name for name in options if name.upper().startswith("AWS_")]


def test_no_session_is_made_to_write_and_read_a_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        pytest.fail("a session of AWS was made")

    monkeypatch.setattr(rasterio.session.AWSSession, "__init__", refuse)
    classes = np.ones(GRID.shape, np.uint8)
    (tmp_path / "mask.tif").write_bytes(build_mask_cog(classes, GRID))
    read = AssetReader(local_root=tmp_path).read_band(
        str(tmp_path / "mask.tif"), GRID, resampling="nearest", item_id="item"
    )
    np.testing.assert_array_equal(read, classes)
