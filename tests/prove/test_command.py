"""`cloudmask prove` against servers on loopback: it passes, and finds each difference that is planted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import Affine

from pc_cloudmask.prove.proof import ARTICLE_ID, list_assets
from tests.doubles.command import run
from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene, build_scene, split_datatake
from tests.doubles.earth_engine.sentinel2 import Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.doubles.range_server import RangeServer
from tests.doubles.stac_api.server import StacApiServer
from tests.masking.earth_engine.items import build_item
from tests.raster.rasters import write_tiff

SHAPE_20M = (153, 207)
TAKEN = "20190103T133219"
#: What is looked at of any scene but the article's.
CHECKS = ["item", "pairing", "grid", "sun", "assets", "two masks", "tutorial", "window", "store"]


@dataclass
class Live:
    """The services that a proof speaks to, and the one item that they have."""

    engine: LocalEarthEngine
    api: StacApiServer
    assets: RangeServer
    product: Sentinel2
    item: dict[str, Any]
    folder: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.api.items = [self.item]
        item = () if "--item" in arguments or "--items" in arguments else ("--item", self.item["id"])
        return run(
            "prove",
            *item,
            *arguments,
            cwd=self.folder,
            CLOUDMASK_STAC_API_URL=self.api.url,
            CLOUDMASK_EARTHENGINE_URL=self.engine.url,
            CLOUDMASK_EARTHENGINE_PROJECT="my-project",
            CLOUDMASK_EARTHENGINE_CREDENTIALS="anonymous",
            **environment,
        )

    def prove(self, status: int, *arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
        """The checks by name, of a proof that ends with ``status``."""
        result = self.run(*arguments, "--json", **environment)
        assert result.returncode == status, result.stdout + result.stderr
        return {check["check"]: check for check in json.loads(result.stdout)["checks"]}


def describe(checks: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The verdicts of the checks that did not pass."""
    return {name: check["verdict"] for name, check in checks.items() if check["verdict"] != "passed"}


def write_assets(folder: Path, product: Sentinel2) -> None:
    west, north = product.origin
    height, width = (-(-side // 2) for side in product.shape_10m)
    for key in list_assets():
        pixels = np.full((height, width), 4 if key == "SCL" else 1234, np.uint8 if key == "SCL" else np.uint16)
        transform = Affine(20, 0, west, 0, -20, north)
        write_tiff(folder / f"{key}.tif", pixels, crs=product.crs, transform=transform)


def build_live_item(product: Sentinel2, assets: str) -> dict[str, Any]:
    footprint = product.footprint.to_geojson()
    lons, lats = zip(*footprint["coordinates"][0], strict=True)
    place = {"geometry": footprint, "bbox": [min(lons), min(lats), max(lons), max(lats)]}
    item = {**build_item(build_scene(product)), **place, "collection": "sentinel-2-l2a"}
    grid = item["assets"]["SCL"]
    item["assets"] = {key: {**grid, "href": f"{assets}/{key}.tif"} for key in list_assets()}
    return item


@pytest.fixture
def live(earth_engine: LocalEarthEngine, tmp_path: Path) -> Iterator[Live]:
    product = replace(build_ragged_scene(SUNS[1], shape_20m=SHAPE_20M), datatake=TAKEN, datastrip=TAKEN)
    earth_engine.world.add_sentinel2(product)
    files = tmp_path / "files"
    files.mkdir()
    write_assets(files, product)
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    with StacApiServer() as api, RangeServer(files) as assets:
        yield Live(earth_engine, api, assets, product, build_live_item(product, assets.url), cwd)


def test_everything_agrees_and_nothing_is_left_behind(live: Live) -> None:
    checks = live.prove(0)
    assert list(checks) == CHECKS
    assert checks["two masks"]["figures"]["compared"] == SHAPE_20M[0] * SHAPE_20M[1]
    assert min(checks["two masks"]["figures"]["pixels"].values()) > 0
    assert checks["tutorial"]["figures"]["collection"] == "COPERNICUS/S2_SR"
    assert "COPERNICUS/S2_SR" in str([each.body for each in live.engine.requests])
    assert list(live.folder.iterdir()) == []
