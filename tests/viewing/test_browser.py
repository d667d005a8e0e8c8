"""The demo's catalog in a real browser: docs/stac-browser.md says what this needs."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pc_cloudmask.demo.demo import build_demo_request
from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.raster.picture import encode_picture
from pc_cloudmask.viewing.stac_browser import find_stac_browser
from tests.direct_runs import run_directly
from tests.sample_archive import SAMPLE_IDS
from tests.viewing.conftest import Serve

pytestmark = pytest.mark.browser

COLLECTION = "sentinel-2-l2a-cloudmask"
LEAF = f"{COLLECTION}/22K/22KFV/2018"
SCENE = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
DRAWN_MS = 8_000
"""Until a COG is on the map; the browser gives no sign of it."""
MAP_TILE = encode_picture(np.full((256, 256, 3), (226, 232, 236), np.uint8))


@pytest.fixture(scope="module")
def url(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    if "CLOUDMASK_BROWSER" not in os.environ:
        pytest.skip("CLOUDMASK_BROWSER names no built STAC Browser")
    request = build_demo_request(None, tmp_path_factory.mktemp("browser") / "out")
    assert len(run_directly(request).published) == len(SAMPLE_IDS)
    return serve(Path(str(request.store)), find_stac_browser(Path(os.environ["CLOUDMASK_BROWSER"])))


@pytest.fixture
def page(url: str) -> Iterator[Any]:
    """A page, the world's map replaced by a grey one; what it complains about is in ``page.complaints``."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1300})
        page.complaints = []
        page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        answer = {"status": 200, "content_type": "image/png", "body": MAP_TILE}
        answer["headers"] = {"Access-Control-Allow-Origin": "*"}
        page.route("**/*tile.openstreetmap.org/**", lambda route: route.fulfill(**answer))
        yield page
        browser.close()


def look(page: Any, url: str, name: str) -> NDArray[np.uint8]:
    """Opens a page; the pixels (height, width, 3) that are seen once all is drawn."""
    page.goto(url)
    page.wait_for_timeout(DRAWN_MS)
    shot = page.screenshot()
    if folder := os.environ.get("CLOUDMASK_SCREENSHOTS"):
        Path(folder, f"{name}.png").write_bytes(shot)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(io.BytesIO(shot)) as picture:
            return picture.read((1, 2, 3)).transpose(1, 2, 0)


def count(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(axis=-1) <= 8).sum())


def test_it_opens_on_the_collection(page: Any, url: str) -> None:
    look(page, f"{url}/", "collection")
    assert page.title().startswith("Sentinel-2")
    assert "Zone 22, band K" in page.inner_text("body")
    assert "Zone 33, band U" in page.inner_text("body")
    assert page.complaints == []


def test_a_year_shows_its_masks(page: Any, url: str) -> None:
    pixels = look(page, f"{url}/#/{LEAF}/catalog.json", "year")
    assert "2018-12-14" in page.inner_text("body")
    assert count(pixels, CLASS_STYLES[MaskClass.CLOUD].color) > 2_000
    assert page.complaints == []


def test_an_item_shows_its_mask_on_the_map_and_its_legend(page: Any, url: str) -> None:
    """Cloud and shadow have on the map the shares that the item tells."""
    pixels = look(page, f"{url}/#/{LEAF}/{SCENE}/{SCENE}.json", "item")
    cloud, shadow = (
        count(pixels, CLASS_STYLES[mask_class].color)
        for mask_class in (MaskClass.CLOUD, MaskClass.CLOUD_SHADOW)
    )
    assert cloud > 4_000
    assert shadow / cloud == pytest.approx(3.41 / 15.36, rel=0.35)
    page.click("text=Cloud and cloud-shadow mask")
    page.wait_for_timeout(1_000)
    legend = page.inner_text("body")
    for style in CLASS_STYLES.values():
        assert style.description in legend
    assert page.complaints == []
