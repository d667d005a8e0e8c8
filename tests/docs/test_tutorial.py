"""Each command of the tutorial, run in its order, prints what the page says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pc_cloudmask.source.hrefs import map_hrefs
from tests.docs.pages import ROOT, find_blocks
from tests.doubles.command import run
from tests.doubles.range_server import RangeServer
from tests.doubles.stac_api import StacApiServer

pytestmark = pytest.mark.slow

PAGE = "docs/tutorial.md"
#: What the test has done already: it stands in an installed checkout, where the demo was published.
SET_UP = ["make demo", "source .venv/bin/activate", "pip install '.[mosaic,csmask]'"]
MONTH = "20180915"


def find_steps() -> list[tuple[str, str]]:
    """Commands, each with the output that stands below it."""
    text = "".join(block.text for block in find_blocks(PAGE) if block.language == "console")
    return [(command, output) for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.M)]


def as_pattern(output: str) -> str:
    """What an output may be: times differ, and so do the parts that the page leaves out."""
    pattern = re.escape(output.strip()).replace("…", ".*")
    return re.sub(r"in\\ [0-9.\\]+\\ s", r"in [0-9.]+ s", pattern)


@pytest.fixture
def source(published_demo: Path) -> Iterator[str]:
    """A STAC API that stands for the Planetary Computer's, with the scene of the month that the page asks for."""
    archive = published_demo / "sample-archive"
    items = json.loads((archive / "items.json").read_bytes())["features"]
    with RangeServer(archive) as files:
        asked = [
            map_hrefs(item, lambda href: href if "://" in href else f"{files.url}/{href}")
            for item in items
            if MONTH in item["id"]
        ]
        with StacApiServer(asked) as api:
            yield api.url


def test_every_command_prints_what_the_page_says(source: str, published_demo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(published_demo)
    (area,) = [block.text for block in find_blocks(PAGE) if block.language == "json"]
    (tmp_path / "field.geojson").write_text(area)
    steps = find_steps()
    assert [command for command, _ in steps[: len(SET_UP)]] == SET_UP
    for command, output in steps[len(SET_UP) :]:
        program, *arguments = shlex.split(command)
        assert program == "cloudmask"
        done = run(
            *arguments,
            cwd=tmp_path,
            CLOUDMASK_STAC_API_URL=source,
            XDG_CACHE_HOME=str(tmp_path / "cache"),
            COLUMNS="200",
        )
        assert done.returncode == 0, (command, done.stderr)
        if output:
            assert re.fullmatch(as_pattern(output), done.stdout.strip()), (command, done.stdout)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "scene.png",
        "mosaic.tif",
        "mosaic.png",
        "mosaic.json",
        "september.tif",
    }


def test_the_lines_of_python_print_what_the_page_says(
    published_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = find_blocks(PAGE)
    (at,) = [n for n, block in enumerate(blocks) if block.language == "python"]
    (tmp_path / "out").symlink_to(published_demo)
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[at].text, PAGE, "exec"), {})
    assert capsys.readouterr().out == blocks[at + 1].text


def test_make_demo_is_the_command_that_published_it() -> None:
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\ndemo: ")[2].partition("\n\n")[0]
    assert recipe.endswith("$(BIN)/cloudmask demo")
