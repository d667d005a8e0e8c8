"""STAC Browser built by npm, of which a script takes the place."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.viewing.stac_browser import build_browser, find_build, find_stac_browser
from tests.doubles.command import ROOT

NPM = """#!/bin/sh
echo "$1" >> "$NPM_CALLS"
env | grep ^SB_ >> "$NPM_CALLS"
case $1 in
pack) mkdir package && touch package/config.js package/fields.config.js && tar -czf x.tgz package && rm -r package;;
run) mkdir dist && cp config.js dist/app.js && cp fields.config.js dist/ &&
  echo '<head></head><script src="/app.js"></script>' > dist/index.html;;
esac
"""
FAILING = """#!/bin/sh
echo no network >&2
exit 7
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What npm was called for; folders of caches and of work are the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("NPM_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("SB_catalogUrl", "https://example.com/catalog.json")
    put_npm(tmp_path, monkeypatch, NPM)
    return tmp_path / "calls"


def put_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "npm").write_text(script)
    (folder / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.defpath}")


def test_it_is_built_once_and_found_again(calls: Path) -> None:
    told: list[str] = []
    assert find_stac_browser() is None
    folder = build_browser(None, told.append)
    assert folder == find_build()
    assert folder.is_relative_to(calls.parent / "cache" / "cloudmask")
    assert len(told) == 1
    found = find_stac_browser()
    assert found is not None
    assert found.folder == folder
    assert "getMapSourceOptions" in (folder / "app.js").read_text()
    assert "cloudmask:fingerprint" in (folder / "fields.config.js").read_text()
    asked = calls.read_text()
    assert asked.split() == ["pack", "pkg", "install", "run"]  # no option of another build
    assert build_browser(None, told.append) == folder
    assert (calls.read_text(), len(told)) == (asked, 1)
    assert {each.name for each in calls.parent.iterdir()} == {"bin", "cache", "calls"}


def test_a_folder_that_is_named_is_built_and_not_built_again(calls: Path, tmp_path: Path) -> None:
    folder = build_browser(tmp_path / "named" / "browser", lambda _: None)
    assert (folder / "index.html").is_file()
    calls.unlink()
    assert build_browser(folder, lambda _: None) == folder
    assert not calls.exists()


def test_a_build_that_fails_leaves_nothing(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    put_npm(tmp_path, monkeypatch, FAILING)
    with pytest.raises(SettingsError, match="exit status 7"):
        build_browser(None, lambda _: None)
    assert "no network" in capfd.readouterr().err
    assert list((tmp_path / "cache" / "cloudmask").iterdir()) == []
    assert find_stac_browser() is None


def test_without_npm_it_says_what_to_install(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"install Node\.js .* serve works without it") as caught:
        build_browser(None, lambda _: None)
    assert "\n" not in str(caught.value)


def test_the_wheel_has_the_recipe() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["sources"] == {"deploy/stac-browser": "pc_cloudmask/viewing/stac-browser"}
    assert "deploy/stac-browser" in wheel["only-include"]
