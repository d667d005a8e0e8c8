"""A built STAC Browser beside the catalog."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import requests

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.viewing.stac_browser import StacBrowser, find_stac_browser
from tests.viewing.conftest import ITEM, Serve

INDEX_OF_4 = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>STAC Browser</title>'
    '<script defer="defer" src="/js/app.f781f42b.js"></script></head><body></body></html>'
)
INDEX_OF_5 = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <!--RC
    <base href="/" id="stac-browser-base">
    <script defer="defer" src="./runtime-config.js"></script>
    RC-->
    <script type="module" crossorigin src="/assets/index-C0.js"></script>
  </head>
</html>
"""
FILES = {INDEX_OF_4: "js/app.f781f42b.js", INDEX_OF_5: "assets/index-C0.js"}


@pytest.fixture(params=[INDEX_OF_4, INDEX_OF_5], ids=["version 4", "version 5"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What ``npm run build`` leaves."""
    folder = tmp_path / "dist"
    for name, text in {
        "index.html": request.param,
        FILES[request.param]: "app()",
        "runtime-config.js": "window.STAC_BROWSER_CONFIG = {};",
        "assets/_plugin-vue_export-helper.js": "helper()",
        "catalog.json": "{}",
        ".env": "secret",
        "deploy.key": "secret",
        "_pending/S2B_Z.json": "secret",
        ".git/index.html": "secret",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def find(folder: Path) -> StacBrowser:
    browser = find_stac_browser(folder)
    assert browser is not None
    return browser


def read_config(url: str) -> str:
    answer = requests.get(f"{url}/runtime-config.js", timeout=600)
    assert answer.headers["Content-Type"].startswith("text/javascript")
    return answer.text


def test_the_page_reads_our_options_before_any_other_script(root: Path, build: Path, serve: Serve) -> None:
    page = requests.get(f"{serve(root, find(build))}/", timeout=600)
    assert page.headers["Content-Type"].startswith("text/html")
    scripts = re.findall(r'<script[^>]*src="([^"]+)"[^>]*>', page.text)
    assert scripts[0] == "/runtime-config.js"
    assert FILES[find(build).index] in scripts[-1]
    assert "defer" not in page.text.partition("/runtime-config.js")[0].rpartition("<")[2]


def test_the_options_name_the_catalog_of_this_server(root: Path, build: Path, serve: Serve) -> None:
    script = read_config(serve(root, find(build)))
    options = json.loads(script[script.index("{") : script.index("}") + 1])
    assert options["historyMode"] == "hash"
    assert options["catalogTitle"]
    assert 'catalogUrl: location.origin + "/catalog.json"' in script
    assert "#/sentinel-2-l2a-cloudmask/collection.json" in script


def test_catalog_and_browser_share_a_port_and_the_catalog_comes_first(
    root: Path, build: Path, serve: Serve
) -> None:
    url = serve(root, find(build))
    for key, text in {
        "catalog.json": '{"type": "Catalog"}',
        ITEM: '{"type": "Feature"}',
        FILES[find(build).index]: "app()",
        "assets/_plugin-vue_export-helper.js": "helper()",
    }.items():
        answer = requests.get(f"{url}/{key}", timeout=600)
        assert (answer.status_code, answer.text) == (200, text)
    assert requests.get(f"{url}/favicon.ico", timeout=600).text == ""
    for key in (
        "_pending/S2B_X.json",
        "_pending/S2B_Z.json",
        ".env",
        "deploy.key",
        ".git/index.html",
        "secret.key",
    ):
        assert requests.get(f"{url}/{key}", timeout=600).text == "Not Found"


def test_a_browser_in_the_folder_of_the_store_shows_nothing_else_of_it(
    root: Path, build: Path, serve: Serve
) -> None:
    for path in build.iterdir():
        if path.name in {"index.html", "runtime-config.js", "js", "assets"}:
            path.rename(root / path.name)
    url = serve(root, find(root))
    assert requests.get(f"{url}/{FILES[find(root).index]}", timeout=600).text == "app()"
    for key in ("_pending/S2B_X.json", ".env", "secret.key", "secret.json", "cloudmask.toml"):
        assert requests.get(f"{url}/{key}", timeout=600).text == "Not Found"


def test_a_folder_of_the_usual_name_is_found(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(build.parent)
    assert find_stac_browser() is None
    build.rename(build.parent / "stac-browser")
    assert find_stac_browser() is not None


def test_a_folder_without_a_build_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--build-browser"):
        find_stac_browser(tmp_path)


def test_a_build_for_another_path_is_refused(build: Path) -> None:
    """Its scripts would be asked for where they are not, and the page would stay white."""
    index = (build / "index.html").read_text()
    (build / "index.html").write_text(re.sub(r'src="/', 'src="/browser/', index))
    with pytest.raises(SettingsError, match="pathPrefix"):
        find_stac_browser(build)


def test_the_options_of_the_build_are_those_of_the_server() -> None:
    """Who hosts STAC Browser on a bucket sees the mask as ``serve`` shows it."""
    options = (Path(__file__).parents[2] / "deploy" / "stac-browser" / "options.js").read_text()
    for line in ("historyMode", "classification:classes", "interpolate: false"):
        assert line in options
        assert line in StacBrowser.config_script()
