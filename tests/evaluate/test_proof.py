"""`cloudmask prove` against servers on loopback: it passes, and finds each difference that is planted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import Affine

from pc_cloudmask.evaluate.proof import ARTICLE_ID, Check, Proof, Verdict, list_assets, prove
from pc_cloudmask.masking.earth_engine.session import sum_eecu_seconds
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.assets import AssetReader
from pc_cloudmask.web import RetryPolicy
from tests.doubles.command import ROOT, run
from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.functions.scalars import write_profile
from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene, build_scene, split_datatake
from tests.doubles.earth_engine.sentinel2 import Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.doubles.range_server import RangeServer
from tests.doubles.stac_api.server import StacApiServer
from tests.masking.earth_engine.items import build_item
from tests.raster.rasters import write_tiff

SHAPE_20M = (153, 207)
TAKEN = "20190103T133219"
#: When the halves of a split datatake begin to be sensed, not at its own start.
STRIPS = ("20190103T133221", "20190103T133235")
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

    @property
    def settings(self) -> dict[str, Any]:
        self.api.items = [self.item]
        return {
            "stac_api_url": self.api.url,
            "earthengine_url": self.engine.url,
            "earthengine_project": "my-project",
            "earthengine_credentials": "anonymous",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, in a folder of its own."""
        variables = {f"CLOUDMASK_{name.upper()}": value for name, value in self.settings.items()}
        return run("prove", *arguments, cwd=self.folder, **variables)

    def prove(self, **settings: Any) -> Proof:
        """The proof of the item, in this process."""
        context = RunContext(Settings(**{**self.settings, **settings}), read_only=True)
        with closing(context.session):
            return prove(context, self.item["id"])


def list_failed(proof: Proof) -> dict[str, str]:
    """Verdicts of the checks that did not pass."""
    return {check.name: str(check.verdict) for check in proof.checks if check.verdict is not Verdict.PASSED}


def find_check(proof: Proof, name: str) -> Check:
    (check,) = (check for check in proof.checks if check.name == name)
    return check


def write_assets(folder: Path, product: Sentinel2) -> None:
    west, north = product.origin
    height, width = (-(-side // 2) for side in product.shape_10m)
    for key in list_assets():
        pixels = np.full(
            (height, width), 4 if key == "SCL" else 1234, np.uint8 if key == "SCL" else np.uint16
        )
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


@pytest.mark.slow
def test_everything_agrees_and_the_report_tells_no_secrets(live: Live) -> None:
    live.engine.tells_profiles = True
    result = live.run("--item", live.item["id"], "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["holds"] is True
    checks = {check["check"]: check for check in found["checks"]}
    assert list(checks) == CHECKS
    assert {check["verdict"] for check in checks.values()} == {"passed"}
    assert checks["two masks"]["figures"]["compared"] == SHAPE_20M[0] * SHAPE_20M[1]
    assert min(checks["two masks"]["figures"]["pixels"].values()) > 0
    assert checks["tutorial"]["figures"]["collection"] == "COPERNICUS/S2_SR"
    assert any("Collection.map" in request.functions for request in live.engine.requests)
    assert found["transfer"]["requests"] == sum(check["figures"]["requests"] for check in checks.values())
    assert found["transfer"]["eecu_seconds"] == 0.75 * found["transfer"]["requests"]
    assert {"pc-cloudmask", "earthengine-api", "rasterio", "GDAL", "Python"} <= set(found["versions"])
    assert "my-project" not in result.stdout
    assert list(live.folder.iterdir()) == []


def mirror(azimuth_deg: float) -> float:
    return (180 - azimuth_deg) % 360


def test_a_mirrored_azimuth_of_the_item_is_found(live: Live) -> None:
    live.item["properties"]["s2:mean_solar_azimuth"] = mirror(live.product.solar_azimuth_deg)
    proof = live.prove()
    assert list_failed(proof) == {"sun": "differs", "tutorial": "differs"}
    assert find_check(proof, "tutorial").figures["different"] > 100


def test_a_mirrored_azimuth_of_the_image_is_found(live: Live) -> None:
    live.engine.world.add_sentinel2(
        replace(live.product, solar_azimuth_deg=mirror(live.product.solar_azimuth_deg))
    )
    assert list_failed(live.prove()) == {"sun": "differs", "tutorial": "differs"}


def test_azimuths_that_two_processors_tell_a_little_apart_are_no_difference(live: Live) -> None:
    live.item["properties"]["s2:mean_solar_azimuth"] += 0.4
    proof = live.prove()
    assert proof.holds
    figures = find_check(proof, "tutorial").figures
    assert figures["different"] > 0, "else this test shows nothing"
    assert figures["as_the_tutorial"]["different"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("shift_m", [10, 20])
def test_a_shifted_grid_is_found(shift_m: int, live: Live) -> None:
    for asset in live.item["assets"].values():
        asset["proj:transform"] = [20, 0, live.product.origin[0] + shift_m, 0, -20, live.product.origin[1]]
    proof = live.prove()
    assert list_failed(proof)["grid"] == "differs"
    detail = find_check(proof, "grid").detail
    assert f"transform 20, 0, 6000{shift_m}, 0, -20, 7500040" in detail
    assert "transform 20, 0, 600000, 0, -20, 7500040" in detail


@pytest.mark.slow
def test_the_articles_scene_must_have_the_grid_that_the_article_prints(live: Live) -> None:
    product = replace(live.product, datatake="20181214T133219", datastrip="20181214T133217")
    live.engine.world.add_sentinel2(product)
    live.item = build_live_item(product, live.assets.url)
    assert live.item["id"] == ARTICLE_ID
    proof = live.prove()
    assert list_failed(proof) == {"article": "differs"}
    assert (
        "5490 x 5490 pixels, transform 20, 0, 600000, 0, -20, 7500040, EPSG:32722"
        in find_check(proof, "article").detail
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cloud_probability_pct", 40),
        ("dark_nir_reflectance", 0.1),
        ("shadow_distance_m", 640),
        ("buffer_m", 30),
    ],
)
def test_another_threshold_is_found(name: str, value: float, live: Live) -> None:
    proof = live.prove(**{name: value})
    assert list_failed(proof) == {"tutorial": "differs"}
    check = find_check(proof, "tutorial")
    assert check.figures["different"] > 0
    assert f"{name} {value:g} (tutorial " in check.detail


def test_a_missing_datastrip_is_found(live: Live) -> None:
    live.engine.world.remove_sentinel2(live.product.index)
    proof = live.prove()
    check = find_check(proof, "pairing")
    assert check.verdict is Verdict.DIFFERS
    assert live.product.datastrip_id in check.detail
    rest = {"grid", "sun", "two masks", "tutorial", "window", "store"}
    assert list_failed(proof) == {"pairing": "differs", **dict.fromkeys(rest, "not tried")}


@pytest.mark.slow
def test_half_of_a_split_datatake_is_found_and_two_halves_are_compared(live: Live) -> None:
    live.engine.world.remove_sentinel2(live.product.index)
    first, second = (
        replace(part, datastrip=name) for part, name in zip(split_datatake(live.product), STRIPS, strict=True)
    )
    live.engine.world.add_sentinel2(first)
    check = find_check(live.prove(), "pairing")
    assert check.verdict is Verdict.DIFFERS
    assert "the one with the rest is not there yet" in check.detail
    live.engine.world.add_sentinel2(second)
    proof = live.prove()
    assert list_failed(proof) == {"pairing": "differs"}
    assert f"{first.index} and {second.index} by footprint" in find_check(proof, "pairing").detail


@pytest.mark.slow
def test_an_image_of_another_datastrip_is_told_and_compared(live: Live) -> None:
    live.engine.world.remove_sentinel2(live.product.index)
    other = replace(live.product, datastrip=STRIPS[0])
    live.engine.world.add_sentinel2(other)
    proof = live.prove()
    assert list_failed(proof) == {"pairing": "differs"}
    assert f"no {live.product.index} of its datastrip" in find_check(proof, "pairing").detail


def test_an_item_without_its_datastrip_is_found(live: Live) -> None:
    del live.item["properties"]["s2:datastrip_id"]
    check = find_check(live.prove(), "item")
    assert check.verdict is Verdict.DIFFERS
    assert "s2:datastrip_id" in check.detail


def test_an_href_that_cannot_be_read_is_found(live: Live) -> None:
    live.item["assets"]["B11"]["href"] = f"{live.assets.url}/gone.tif?sig=secret"
    del live.item["assets"]["B03"]
    proof = live.prove()
    assert list_failed(proof) == {"assets": "differs"}
    check = find_check(proof, "assets")
    assert "gone.tif: not there (HTTP 404)" in check.detail
    assert "assets.B03 is missing" in check.detail
    assert "secret" not in json.dumps(proof.as_json())


@pytest.mark.slow
def test_assets_that_want_a_token_are_named(live: Live) -> None:
    live.assets.tokens = {"t"}
    assert "it is read with a token of the Planetary Computer" in find_check(live.prove(), "assets").detail


def test_a_cloudy_scene_and_one_with_an_offset_are_in_the_tutorials_collection(live: Live) -> None:
    live.engine.world.add_sentinel2(replace(live.product, cloudy_pixel_percentage=90.0, baseline="04.00"))
    proof = live.prove()
    assert proof.holds, list(proof.list_lines())
    figures = find_check(proof, "tutorial").figures
    assert figures["cloud_filter"] == 100
    assert figures["collection"] == "COPERNICUS/S2_SR_HARMONIZED"


def test_an_item_that_is_not_there_is_found_and_the_rest_not_tried(live: Live) -> None:
    result = live.run()
    assert result.returncode == 1
    assert result.stdout.splitlines()[0] == f"cloudmask prove {ARTICLE_ID}: 1 differs, 9 not tried"
    assert f"the source has no item {ARTICLE_ID}" in result.stdout


def test_a_profile_of_another_form_tells_no_figure() -> None:
    assert sum_eecu_seconds(write_profile(4)) == 3.0
    assert sum_eecu_seconds(write_profile(4).replace("EECU·s", "Time")) is None
    assert sum_eecu_seconds("") is None


@pytest.mark.slow
def test_a_fault_of_the_set_up_ends_it_with_2_and_what_was_found_is_told(live: Live) -> None:
    live.engine.faults.add(faults.missing_role("my-project"), path="computePixels")
    result = live.run("--item", live.item["id"])
    assert result.returncode == 2
    assert "passed     sun" in result.stdout
    assert "not tried  two masks" in result.stdout
    assert "my-project" not in result.stdout
    assert "Traceback" not in result.stderr


def test_what_does_not_answer_now_is_no_difference(live: Live) -> None:
    live.assets.plan = lambda _path, _number: (503, b"", {})
    context = RunContext(Settings(**live.settings), read_only=True)
    context.reader = AssetReader(
        hosts=frozenset({"127.0.0.1"}), allow_loopback=True, retry=RetryPolicy(attempts=1)
    )
    proof = prove(context, live.item["id"])
    context.session.close()
    assert list_failed(proof) == {"assets": "not tried"}
    assert not proof.holds


@pytest.mark.slow
def test_items_from_a_file_need_no_api(live: Live) -> None:
    path = live.folder / "items.json"
    other = {**live.item, "id": live.item["id"].replace("22KFV", "22KFW")}
    for asset in live.item["assets"].values():
        asset["href"] = str(live.assets.root / asset["href"].rpartition("/")[2])
    (live.assets.root / "item.json").write_text(json.dumps(live.item))
    result = live.run("--items", str(live.assets.root / "item.json"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 of 8 read from local files" in result.stdout
    assert str(live.assets.root) not in result.stdout
    assert not live.api.requests
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [live.item, other]}))
    result = live.run("--items", str(path))
    assert result.returncode == 2
    assert result.stderr.strip().endswith("holds 2 items: name one of them with --item")


@pytest.mark.parametrize(
    ("arguments", "says"), [((), "CLOUDMASK_EARTHENGINE_PROJECT"), (("--item", "x y"), "--item 'x y'")]
)
def test_what_cannot_begin_says_so_in_a_line(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    result = run("prove", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert says in line
    assert result.stdout == ""


def test_the_page_explains_each_check() -> None:
    page = (ROOT / "docs" / "proof.md").read_text("utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for name in rows if name != "article"] == CHECKS
