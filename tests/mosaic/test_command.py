"""`cloudmask mosaic` as users meet it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.doubles.command import run
from tests.published_demo import copy_catalog

pytestmark = pytest.mark.slow

CORNER = ("--bbox", "-49.995,-22.63,-49.965,-22.605")


def test_it_says_what_was_made_and_what_is_left_of_clouds(published_demo: Path, tmp_path: Path) -> None:
    result = run(
        *("mosaic", *CORNER, "--out", "m.tif", "--store", published_demo),
        *("--plain-median", "--truth", "truth", "--resolution", "20", "--json"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert len(report["items"]) == 3
    assert report["crs"] == "EPSG:32722"
    assert report["residual_percentage"] <= 1
    assert report["plain_residual_percentage"] > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("m-plain.png", "m-plain.tif", "m.json", "m.png", "m.tif")
    ]


def test_a_scene_left_out_is_named_and_ends_in_exit_status_1(published_demo: Path, tmp_path: Path) -> None:
    store = copy_catalog(published_demo, tmp_path / "store")
    for path in (store / "sample-archive").rglob("*20181214*_B04_10m.tif"):
        path.unlink()
    result = run("mosaic", *CORNER, "--out", "m.tif", CLOUDMASK_STORE=str(store), cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout.startswith("2 scenes on ")
    (line,) = result.stderr.splitlines()
    assert re.match(
        r"cloudmask: left out: S2B_MSIL2A_20181214T\w+: .*B04_10m\.tif: cannot be read: No such file", line
    )
    assert (tmp_path / "m.tif").exists()


def test_statistics_of_a_catalog_with_a_broken_item_are_those_of_the_others(
    published_demo: Path, tmp_path: Path
) -> None:
    store = copy_catalog(published_demo, tmp_path / "store")
    for path in store.glob("sentinel*/**/S2*20181214*/S2*.json"):
        path.write_text("{")
    result = run("stats", "--tile", "22KFV", "--store", store, cwd=tmp_path)
    assert result.returncode == 1
    assert re.search(r"22KFV 2018 .* 0/2|22KFV 2018 .*/2\b", result.stdout), result.stdout
    assert re.match(
        r"cloudmask: not counted: S2B_MSIL2A_20181214T\w+: .*check --repair$", result.stderr.strip()
    )


def test_a_dry_run_names_the_scenes_and_writes_nothing(published_demo: Path, tmp_path: Path) -> None:
    result = run(
        "mosaic", *CORNER, "--out", "m.tif", "--dry-run", CLOUDMASK_STORE=str(published_demo), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    *items, summary = result.stdout.splitlines()
    assert len(items) == 3
    assert summary.startswith("3 scenes on ")
    assert summary.endswith("nothing was written")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.tif", "m.png", "m.json"])
def test_a_folder_in_the_way_is_named_before_the_work(
    name: str, published_demo: Path, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    result = run("mosaic", *CORNER, "--out", "m.tif", "--store", published_demo, cwd=tmp_path)
    assert result.returncode == 2
    assert name in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--bbox or --tile"),
        (["--tile", "99ZZZ"], "99ZZZ"),
        (["--tile", "22KFV", "--reducer", "mean"], "--reducer"),
        (["--tile", "22KFV"], "holds no catalog"),
        (["--tile", "22KFV", "--store", "gs://bucket"], "gs://bucket"),
    ],
)
def test_wrong_usage_ends_with_one_line(arguments: list[str], hint: str, tmp_path: Path) -> None:
    result = run("mosaic", "--out", "m.tif", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert hint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
