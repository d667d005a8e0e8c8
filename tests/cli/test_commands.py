"""The command line as users meet it, in processes of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pc_cloudmask.catalog.states import record_waiting
from pc_cloudmask.storage.local import LocalStore
from tests.catalog.items import NOW, make_source_item
from tests.doubles.command import ROOT, run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["ingest", "--tile", "99ZZZ"], "99ZZZ"),
        (["ingest", "--bbox", "10,20,5,10"], "--bbox"),
        (["ingest", "--bbox", "10,nan,12,13"], "--bbox"),
        (["ingest", "--tile", "22KFV", "--datetime", "2019/2018"], "--datetime"),
        (["ingest"], "--tile"),
        (["ingest", "--tile", "22KFV", "--method", "magic"], "--method: "),
        (["ingest", "--tile", "22KFV", "--config", "absent.toml"], "absent.toml"),
        (["ingest", "--items", "absent.json"], "absent.json"),
        (["ingest", "--intersects", "absent.json"], "absent.json"),
        (["ingest", "--tile", "22KFV", "--store", "gs://bucket"], "--store: "),
    ],
)
def test_wrong_usage_ends_with_one_line_and_nothing_written(
    arguments: list[str], hint: str, tmp_path: Path
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert hint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    items = tmp_path / "items.json"
    items.write_text('{"type": "FeatureCollection", "features": []}')
    result = run("ingest", "--items", items, "--store", tmp_path / "file" / "out", cwd=tmp_path)
    assert result.returncode == 2
    assert f"store {tmp_path}/file/out: {tmp_path}/file is a file: name a directory" in result.stderr


def test_no_matching_scene_is_an_empty_report(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    result = run("--json", "ingest", "--items", "items.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report.pop("seconds") >= 0
    assert report == {"published": [], "skipped": [], "waiting": [], "failed": [], "withdrawn": []}


@pytest.mark.parametrize("path", ["absent/cloudmask.prom", ""])
def test_figures_that_cannot_be_written_are_named_before_the_run(path: str, tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    result = run("ingest", "--items", "items.json", "--json", cwd=tmp_path, CLOUDMASK_METRICS=path)
    assert result.returncode == 2
    assert "CLOUDMASK_METRICS" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["items.json"]


def test_figures_that_are_lost_in_the_end_cost_no_report(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    longest = "x" * 255  # a temporary name beside it is longer
    result = run("ingest", "--items", "items.json", "--json", cwd=tmp_path, CLOUDMASK_METRICS=longest)
    assert result.returncode == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert "CLOUDMASK_METRICS" in problem


def test_who_has_no_home_can_run_a_job(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    result = run("ingest", "--items", "items.json", cwd=tmp_path, PREFECT_HOME="~nobody-of-that-name")
    assert result.returncode == 0, result.stderr


@pytest.mark.shared
@pytest.mark.parametrize("mode", [["--dry-run"], []])
def test_ids_that_no_scene_has_are_named(mode: list[str], shared_data: Path, tmp_path: Path) -> None:
    found = sorted(path.stem for path in (shared_data / "pc-items").glob("S2*.json"))[0]
    ids = ["absent", found] if mode else ["absent"]
    result = run(
        "ingest", "--items", shared_data / "pc-items", "--json", *mode, "--ids", ",".join(ids), cwd=tmp_path
    )
    assert result.returncode == 0
    assert result.stderr == "cloudmask: no scene matches: absent\n"
    assert json.loads(result.stdout)["failed"] == []


def test_a_dry_run_lists_the_real_items_with_their_keys(shared_data: Path, tmp_path: Path) -> None:
    result = run("ingest", "--items", shared_data / "pc-items", "--dry-run", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    ids = {path.stem for path in (shared_data / "pc-items").glob("S2*.json")}
    assert {scene["id"] for scene in plan["would_publish"]} == ids
    for scene in plan["would_publish"]:
        tile = re.search(r"_T(\w{5})_", scene["id"])[1]
        folder = f"sentinel-2-l2a-cloudmask/{tile[:3]}/{tile}/2019/{scene['id']}/"
        assert scene["item"] == f"{folder}{scene['id']}.json"
        assert all(asset.startswith(folder) for asset in scene["assets"])
        assert scene["bytes"] >= 5490 * 5490
    pairing = 2  # one is half a year later than the others
    assert plan["requests"] == sum(scene["requests"] for scene in plan["would_publish"]) + pairing
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared
def test_real_items_without_earth_engine_end_with_how_to_mend_it(shared_data: Path, tmp_path: Path) -> None:
    result = run("ingest", "--items", shared_data / "pc-items", cwd=tmp_path)
    assert result.returncode == 2
    assert "CLOUDMASK_EARTHENGINE_PROJECT" in result.stderr
    assert not list(tmp_path.rglob("*.tif"))


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    result = run("--help", cwd=tmp_path)
    assert result.returncode == 0
    for command in ("demo", "ingest", "doctor"):
        assert command in result.stdout
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pc_cloudmask", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    heavy = {"numpy", "rasterio", "boto3", "prefect", "ee", "pystac", "pydantic"}
    assert not heavy & {line.rpartition("|")[2].strip() for line in loaded.splitlines()}


def test_every_command_is_in_the_contract(tmp_path: Path) -> None:
    contract = (ROOT / "docs" / "contract.md").read_text()
    listed = re.findall(r"^│ (\w+) ", run("--help", cwd=tmp_path, COLUMNS="80").stdout, re.MULTILINE)
    assert len(listed) >= 6
    assert not [command for command in listed if f"`{command}" not in contract]


def write_item(folder: Path, href: str) -> Path:
    """An ItemCollection of one item, each asset of which has the href."""
    item = make_source_item()
    for asset in item["assets"].values():
        asset["href"] = href
    path = folder / "items" / "items.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    return path


TO_BUCKET: tuple[str, dict[str, str]] = ("s3://bucket/masks", {})
TO_PUBLIC_FOLDER = ("out", {"CLOUDMASK_PUBLIC_URL": "https://masks.example.com"})
PUBLISHING = [["ingest"], ["ingest", "--dry-run"], ["watch", "--once", "--tile", "22KFV"]]


# What waits is asked of the store before anything else, so ``retry`` needs one that is there.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "store", "environment"),
    [
        *((more, *where) for more in PUBLISHING for where in (TO_BUCKET, TO_PUBLIC_FOLDER)),
        (["retry"], *TO_PUBLIC_FOLDER),
    ],
)
def test_local_files_are_not_published_where_others_read(
    tmp_path: Path, more: list[str], store: str, environment: dict[str, str]
) -> None:
    items = write_item(tmp_path, "B02.tif")
    if more == ["retry"]:
        record_waiting(LocalStore(tmp_path / "out"), make_source_item()["id"], "no image yet", NOW)
    result = run(*more, "--items", items, "--store", store, cwd=tmp_path, **environment)
    assert result.returncode == 2, result.stderr
    assert "is a local file, which readers of" in result.stderr
    assert "upload it and give its https or s3 href" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "sentinel-2-l2a-cloudmask").exists()


def test_items_of_a_file_with_hrefs_for_all_go_anywhere(tmp_path: Path) -> None:
    items = write_item(tmp_path, "https://sentinel2l2a01.blob.core.windows.net/a/B02.tif")
    result = run(
        "ingest", "--items", items, "--store", "out", "--dry-run", "--method", "csmask", cwd=tmp_path,
        CLOUDMASK_PUBLIC_URL="https://masks.example.com",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_files_within_the_store_are_published_with_it(tmp_path: Path) -> None:
    items = write_item(tmp_path, "B02.tif")
    result = run(
        "ingest", "--items", items, "--store", tmp_path, "--dry-run", "--method", "csmask", cwd=tmp_path,
        CLOUDMASK_PUBLIC_URL="https://masks.example.com",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
