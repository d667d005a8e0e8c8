"""`cloudmask mosaic` as users meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.doubles.command import run

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
