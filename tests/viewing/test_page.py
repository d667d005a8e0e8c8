"""The page that `serve` shows where there is no STAC Browser, in a real web browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.published_demo import copy_catalog
from tests.sample_archive import BRAZIL
from tests.viewing.conftest import Serve

CHROMIUM = shutil.which("chromium")
#: As root, without a screen, without a word to anybody else.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
)  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.pictures: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self.hrefs.append(values.get("href") or "")
        if tag == "img":
            self.pictures.append(values.get("src") or "")


def render(url: str, tmp_path: Path) -> tuple[str, str]:
    """The page's document once its scripts have run, and what the console said."""
    assert CHROMIUM is not None
    ran = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=60000", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)


def test_it_shows_where_masks_are_and_how_clear_a_tile_was(
    published_demo: Path, serve: Serve, tmp_path: Path
) -> None:
    url = serve(published_demo)
    page, console = render(f"{url}/#22KFV/2018", tmp_path)
    assert console == ""
    assert "2 tiles, 2018-06-17 to 2022-06-17" in page
    links = Links(page)
    assert {"#22KFV", "#33UUP", "#22KFV/2018", "catalog.json"} <= set(links.hrefs)
    assert [href.rpartition("/")[2] for href in links.hrefs if "/S2" in href and href.endswith(".json")][
        ::2
    ] == [f"{item_id}.json" for item_id in sorted(BRAZIL, reverse=True)]
    assert len(links.pictures) == 3
    shares = re.findall(r"(2018-\d\d-\d\d)</b><span> · ([\d.]+) % clear", page)
    assert shares == [("2018-12-14", "60.4"), ("2018-09-15", "76.7"), ("2018-06-17", "65.4")]


def test_what_items_say_is_text(published_demo: Path, serve: Serve, tmp_path: Path) -> None:
    root = copy_catalog(published_demo, tmp_path / "catalog")
    (path,) = root.rglob(f"2018/*/{BRAZIL[0]}.json")
    item = json.loads(path.read_bytes())
    item["properties"]["cloudmask:method"] = "<img src=x onerror=document.title='taken'>"
    item["assets"]["cloudmask"]["href"] = "javascript:document.title='taken'"
    item["assets"]["cloudmask-preview"]["href"] = "data:text/html,taken"
    path.write_text(json.dumps(item))
    page, _ = render(f"{serve(root)}/#22KFV/2018", tmp_path / "profile")
    assert "<title>taken" not in page
    assert "&lt;img src=x" in page
    links = Links(page)
    assert len(links.pictures) == 2
    assert not any(href.startswith("javascript:") for href in links.hrefs)


def test_a_catalog_that_cannot_be_read_is_said(published_demo: Path, serve: Serve, tmp_path: Path) -> None:
    root = copy_catalog(published_demo, tmp_path / "catalog")
    (root / "sentinel-2-l2a-cloudmask" / "collection.json").unlink()
    page, _ = render(f"{serve(root)}/", tmp_path / "profile")
    assert "The catalog cannot be read" in page
    assert "404" in page
