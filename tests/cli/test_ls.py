"""`cloudmask ls`, names cut short, and what the shell completes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import typer.main
from typer._completion_classes import BashComplete

from pc_cloudmask.catalog.states import record_waiting
from pc_cloudmask.cli import main, options
from pc_cloudmask.cli.app import app
from pc_cloudmask.storage.local import LocalStore
from tests.catalog.items import NOW
from tests.doubles.command import build_environment, run
from tests.published_demo import copy_catalog

__all__ = ["main"]
JUNE = "S2B_MSIL2A_20180617T133221_R081_T22KFV_20180617T235959"
SEPTEMBER = "S2B_MSIL2A_20180915T133219_R081_T22KFV_20180915T235959"
DECEMBER = "S2B_MSIL2A_20181214T133219_R081_T22KFV_20181214T235959"
BRAZIL = [JUNE, SEPTEMBER, DECEMBER]
BAVARIA = {"type": "Polygon", "coordinates": [[[12, 48], [13, 48], [13, 49], [12, 49], [12, 48]]]}


@pytest.fixture(scope="module")
def varied(published_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's catalog with a mask of another method, a provisional one, one of unknown shares, a broken item."""
    root = copy_catalog(published_demo, tmp_path_factory.mktemp("varied") / "out")
    changes = {
        JUNE: {"cloudmask:method": "csmask"},
        SEPTEMBER: {"cloudmask:provisional": True},
        DECEMBER: {"cloudmask:clear_percentage": None},
    }
    for item_id, change in changes.items():
        (path,) = (root / "sentinel-2-l2a-cloudmask").rglob(f"{item_id}.json")
        document = orjson.loads(path.read_bytes())
        document["properties"] |= change
        path.write_bytes(orjson.dumps(document))
    (path,) = (root / "sentinel-2-l2a-cloudmask").rglob("S2A_MSIL2A_20220617*.json")
    path.write_text("{")
    return root


def list_ids(store: Path, *arguments: str, status: int = 0) -> list[str]:
    result = run("ls", "--ids", "--store", store, *arguments, cwd=store.parent)
    assert result.returncode == status, result.stderr
    return result.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tile", "22KFV"], BRAZIL),
        (["--tile", "22KFV", "--datetime", "2018-09/2018-12"], [SEPTEMBER, DECEMBER]),
        (["--bbox=-51,-24,-49,-22"], BRAZIL),
        (["--tile", "22KFV", "--method", "csmask,omnicloudmask"], [JUNE]),
        (["--tile", "22KFV", "--provisional"], [SEPTEMBER]),
        (["--tile", "22KFV", "--final"], [JUNE, DECEMBER]),
        (["--tile", "22KFV", "--max-cloud", "30"], [SEPTEMBER]),
        (["--tile", "22KFU"], []),
        (["--intersects", json.dumps(BAVARIA), "--datetime", "2018"], []),
    ],
)
def test_items_are_chosen(varied: Path, arguments: list[str], expected: list[str]) -> None:
    assert list_ids(varied, *arguments) == expected


@pytest.mark.slow
def test_an_area_is_a_file_or_geojson_itself(varied: Path, tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps({"type": "Feature", "geometry": BAVARIA, "properties": None}))
    found = list_ids(varied, "--intersects", str(path), status=1)
    assert found == list_ids(varied, "--intersects", json.dumps(BAVARIA), status=1)
    assert [item_id[11:19] for item_id in found] == ["20210910", "20220418"]
    for area, hint in (("absent.json", "absent.json"), ("{}", "--intersects is not a geometry")):
        result = run("ls", "--intersects", area, "--store", varied, cwd=tmp_path)
        assert result.returncode == 2
        assert hint in result.stderr


def test_an_item_that_cannot_be_read_costs_itself_alone(varied: Path) -> None:
    result = run("ls", "--json", "--store", varied, cwd=varied.parent)
    assert result.returncode == 1
    (left_out,) = json.loads(result.stdout)["left_out"]
    assert left_out["id"].startswith("S2A_MSIL2A_20220617")
    assert f"left out: {left_out['id']}" in result.stderr
    assert len(json.loads(result.stdout)["items"]) == 5


def test_every_form_tells_the_same(varied: Path) -> None:
    arguments = ("ls", "--tile", "22KFV", "--store", varied)
    items = json.loads(run(*arguments, "--json", cwd=varied.parent).stdout)["items"]
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--csv", cwd=varied.parent).stdout)))
    assert [item["id"] for item in items] == [row["id"] for row in rows] == BRAZIL
    for item, row in zip(items, rows, strict=True):
        shown = {name: "" if value is None else str(value) for name, value in item.items()}
        assert row == {**shown, "provisional": shown["provisional"].lower()}
        assert Path(item["mask"]).is_file()
        assert json.loads(Path(item["item"]).read_text())["id"] == item["id"]
    lines = run(*arguments, cwd=varied.parent).stdout.splitlines()
    assert lines[0].split() == ["TILE", "DATETIME", "CLEAR", "CLOUD", "SHADOW", "NO", "DATA", "METHOD", "ID"]
    assert [line.split()[-1] for line in lines[1:4]] == BRAZIL
    assert "(provisional)" in lines[2]
    assert "3 items of 1 tile" in lines[4]


def test_nothing_is_said_so_and_forms_exclude_each_other(varied: Path) -> None:
    result = run("ls", "--tile", "22KFU", "--store", varied, cwd=varied.parent)
    assert (result.returncode, result.stdout.count("\n")) == (0, 1)
    assert "nothing that is published" in result.stdout
    for forms in (("--csv", "--ids"), ("--csv", "--json")):
        result = run("ls", *forms, "--store", varied, cwd=varied.parent)
        assert result.returncode == 2
        assert "exclude each other" in result.stderr


def test_less_than_an_id_names_an_item(varied: Path, tmp_path: Path) -> None:
    result = run("view", "22KFV", "2018-12-14", "--size", "50", "--store", varied, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / f"{DECEMBER}.png").is_file()
    for words, hint in (
        (["S2B_MSIL2A"], f"may be any of 3: {JUNE}, {SEPTEMBER}, {DECEMBER}: write more"),
        (["22KFV", "2018-12-14", "22KFV", "2018-09-15"], "one at a time, not 2"),
    ):
        result = run("view", *words, "--store", varied, cwd=tmp_path)
        assert result.returncode == 2
        assert hint in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_retry_takes_beginnings(tmp_path: Path) -> None:
    for item_id in BRAZIL:
        record_waiting(LocalStore(tmp_path / "out"), item_id, "no image yet", NOW)
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    arguments = ("retry", "--items", "items.json", "--store", "out")
    result = run(*arguments, "S2B_MSIL2A_2018", cwd=tmp_path)
    assert result.returncode == 2
    assert f"ID 'S2B_MSIL2A_2018' may be any of 3: {JUNE}" in result.stderr
    result = run(*arguments, "22KFV", "2018-12-14", "S2A", "--json", cwd=tmp_path)
    assert "neither waiting nor failed: S2A" in result.stderr
    assert DECEMBER in result.stdout + result.stderr
    assert JUNE not in result.stdout + result.stderr


def complete(words: list[str], incomplete: str) -> list[str]:
    shell = BashComplete(typer.main.get_command(app), {}, "cloudmask", "_CLOUDMASK_COMPLETE")
    return [item.value for item in shell.get_completions(words, incomplete)]


@pytest.mark.slow
def test_ids_complete(varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_STORE", str(varied))
    for words in (["view"], ["evaluate"], ["view", "--size", "100"]):
        assert complete(words, "S2B_MSIL2A_2018") == BRAZIL
    assert complete(["view", "--store", str(varied.parent / "absent")], "S2B") == []
    assert complete(["view"], "2") == ["22KFV/2018-06-17", "22KFV/2018-09-15", "22KFV/2018-12-14"]
    assert complete(["view"], "22KFV/2018-12") == ["22KFV/2018-12-14"]
    monkeypatch.setattr(options, "_MOST_IDS", 2)
    assert complete(["view"], "") == ["S2A_", "S2B_"]
    assert complete(["view"], "S2B") == [f"{item_id[:27]}" for item_id in BRAZIL]


def test_states_and_values_of_options_complete(varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_STORE", str(varied))
    record_waiting(LocalStore(varied), DECEMBER, "no image yet", NOW)
    assert complete(["retry"], "S2B") == [DECEMBER]
    assert complete(["ls", "--tile"], "") == ["22KFV", "33UUP"]
    assert complete(["ls", "--tile"], "33UUP,") == ["33UUP,22KFV"]
    assert complete(["ls", "--method"], "cs") == ["csmask"]
    assert complete(["ingest", "--method"], "csmask,cl") == ["csmask,cloud-score-plus"]
    assert complete(["ingest", "--compute"], "s") == ["server"]
    assert complete(["evaluate", "--classes"], "p") == ["pixbox-s2-cmix"]
    assert complete(["mosaic", "--reducer"], "m") == ["median", "most-recent-clear"]
    assert complete(["mosaic", "--bands"], "B04,B1") == ["B04,B11", "B04,B12"]
    assert complete(["watch", "--look-back"], "") == ["hot", "recent", "full"]
    monkeypatch.setenv("CLOUDMASK_AREAS", '{"home": {"tiles": ["22KFV"]}}')
    assert complete(["watch", "--area"], "h") == ["home"]


@pytest.mark.slow
def test_a_shell_is_answered(varied: Path) -> None:
    words = f"cloudmask view --store {varied} S2B_MSIL2A_201812"
    asked = {"_CLOUDMASK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "4"}
    answer = subprocess.run(
        [Path(sys.executable).with_name("cloudmask")],
        env=build_environment(varied.parent, asked), cwd=varied.parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.stdout.split() == [DECEMBER]
    assert answer.stderr == ""
