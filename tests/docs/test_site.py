"""The site: built strictly, complete, and of nothing that stands elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import pc_cloudmask
from tests.docs.pages import PAGES, ROOT
from tests.docs.test_command_lines import GROUP

pytestmark = pytest.mark.slow

#: By these an element makes the browser fetch something at once; a link is followed by people.
FETCHED = {"src", "srcset", "data", "poster"}


class Fetches(HTMLParser):
    """Collects what a page makes the browser fetch, and the ids that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in FETCHED or (tag == "link" and name == "href"):
                self.urls.append(value or "")
            if name == "id":
                self.ids.add(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def get_html(site: Path, page: str) -> Path:
    path = site / page.removeprefix("docs/")
    return path.with_name("index.html") if path.name == "README.md" else path.with_suffix(".html")


def test_it_is_complete(site: Path) -> None:
    assert [page for page in PAGES if not get_html(site, page).is_file()] == []
    assert set(GROUP.commands) <= Fetches(site / "commands.html").ids
    names = {f"pc_cloudmask.{name}" for name in pc_cloudmask.__all__} - {"pc_cloudmask.__version__"}
    assert names <= Fetches(site / "python.html").ids
    assert (site / "examples" / "cloudmask.ipynb").is_file()
    assert not (site / "generate").exists()
    index = json.loads((site / "search" / "search_index.json").read_bytes())
    assert {entry["location"].partition("#")[0] for entry in index["docs"]} >= {
        "watching.html",
        "commands.html",
    }
    assert (site / "search" / "search_index.js").is_file()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        urls = [url for url in Fetches(page).urls if not url.startswith("data:")]
        assert [url for url in urls if re.match(r"([a-z]+:)?//", url)] == [], page
        if page.name != "404.html":  # its paths are those of a site at a server's root
            assert [url for url in urls if not (page.parent / url.partition("?")[0]).exists()] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text("utf-8")), sheet
