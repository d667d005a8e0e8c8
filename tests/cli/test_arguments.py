"""How the command line is read: global options anywhere, several values of one option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pc_cloudmask.cli import main  # noqa: F401 - adds the commands
from pc_cloudmask.cli.app import app, options
from pc_cloudmask.cli.options import split_commas

ITEMS = Path(__file__).parents[1] / "golden" / "archive" / "items.json"
EMPTY = '{"type": "FeatureCollection", "features": []}'


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A dry run of nothing, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.json").write_text(EMPTY)
    (tmp_path / "x.toml").write_text("workers = 1")
    return ["ingest", "--items", "items.json", "--dry-run"]


def test_global_options_may_stand_before_and_behind_the_command(planned: list[str]) -> None:
    given = ["--json", "--config", "x.toml", "-vv", "--no-prefect"]
    for arguments in ([*given, *planned], [*planned, *given], [*given[:3], *planned, *given[3:]]):
        answer = invoke(*arguments)
        assert answer.exit_code == 0, answer.output
        assert json.loads(answer.stdout)["dry_run"]
        assert (options.config, options.verbose, options.prefect) == (Path("x.toml"), 2, False)


def test_a_call_forgets_the_global_options_of_the_one_before(planned: list[str]) -> None:
    invoke(*planned, "--json")
    assert "nothing was written" in invoke(*planned).stdout


def test_a_commands_help_does_not_repeat_them() -> None:
    assert "--json" in invoke("--help").stdout
    assert "--json" not in invoke("status", "--help").stdout


@pytest.mark.slow
@pytest.mark.parametrize("given", [["22KFV", "--tile", "33UUP"], ["22KFV,33UUP"], ["22KFV, 33UUP"]])
def test_tiles_are_repeated_or_stand_between_commas(given: list[str], planned: list[str]) -> None:
    assert find_tiles(planned, "22KFV") == {"22KFV"}
    assert find_tiles(planned, *given) == {"22KFV", "33UUP"}


def find_tiles(planned: list[str], *given: str) -> set[str]:
    """The tiles of the recorded items that a dry run with ``--tile`` finds."""
    answer = invoke(*planned, "--json", "--items", str(ITEMS), "--tile", *given)
    assert answer.exit_code == 0, answer.output
    return {scene["item"].split("/")[2] for scene in json.loads(answer.stdout)["would_publish"]}


@pytest.mark.parametrize("tiles", ["", "22KFV,", ",22KFV"])
def test_an_empty_tile_is_refused(tiles: str, planned: list[str]) -> None:
    answer = invoke(*planned, "--tile", tiles)
    assert answer.exit_code != 0
    assert "--tile" in str(answer.exception)


def test_words_behind_a_double_dash_are_no_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "ID '--json': no item's id" in str(invoke("retry", "--", "--json").exception)


def test_a_bbox_that_begins_with_a_minus_stays_with_its_option(planned: list[str]) -> None:
    assert invoke(*planned, "--bbox", "-50,-23,-49,-22").exit_code == 0


@pytest.mark.slow
@given(st.lists(st.lists(st.text("ABC-1", min_size=1), min_size=1)))
def test_no_value_is_lost(values: list[list[str]]) -> None:
    assert split_commas([",".join(parts) for parts in values]) == [part for parts in values for part in parts]
