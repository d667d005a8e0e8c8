"""`check`, `status` and `retry` on a published demo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.doubles.command import run
from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler
from tests.sample_archive import SAMPLE_IDS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo_store(published_demo: Path) -> Path:
    """A demo's store, only read."""
    return published_demo


class _Forbidding(QuietHandler):
    def do_GET(self) -> None:
        self.answer(403, b"", "application/xml")


class ForbiddingServer(LoopbackServer):
    handler = _Forbidding


def test_the_log_of_a_command_that_runs_no_job_shows_no_secret(tmp_path: Path) -> None:
    environment = {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "planted",
        "AWS_SECRET_ACCESS_KEY": "planted-key-of-the-writer",  # pragma: allowlist secret
        "AWS_SESSION_TOKEN": "planted-token-of-the-session",
    }
    with ForbiddingServer() as server:
        environment["AWS_ENDPOINT_URL"] = server.url
        result = run("--verbose", "--verbose", "status", "--store", "s3://b/p", cwd=tmp_path, **environment)
    assert result.returncode == 2
    assert "botocore" in result.stderr
    assert "X-Amz-Security-Token" in result.stderr
    assert "planted-" not in result.stderr


def test_check_proves_the_demo_whole(demo_store: Path, tmp_path: Path) -> None:
    result = run("check", "--store", demo_store, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    report = json.loads(result.stdout)
    assert report["whole"]
    assert (report["items"], report["catalogs"], report["files"]) == (len(SAMPLE_IDS), 9, 2 * len(SAMPLE_IDS))


def test_check_finds_what_is_missing_and_repair_restores_the_same_bytes(
    demo_store: Path, tmp_path: Path
) -> None:
    store = tmp_path / "out"
    shutil.copytree(demo_store, store)
    catalogs = {path: path.read_bytes() for path in store.rglob("c*.json")}
    for path in catalogs:
        path.unlink()
    assert run("check", "--store", store, cwd=tmp_path).returncode == 1
    assert run("check", "--repair", "--store", store, cwd=tmp_path).returncode == 0
    assert {path: path.read_bytes() for path in store.rglob("c*.json")} == catalogs


def test_a_dry_run_asks_nothing_of_earth_engine_for_items_with_inputs_of_their_own(
    demo_store: Path, tmp_path: Path
) -> None:
    items = demo_store / "sample-archive" / "items.json"
    plan = json.loads(run("ingest", "--items", items, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (len(plan["would_publish"]), plan["requests"], plan["bytes"]) == (len(SAMPLE_IDS), 0, 0)


def test_status_counts_and_names_the_days_that_lack(demo_store: Path, tmp_path: Path) -> None:
    items = demo_store / "sample-archive" / "items.json"
    published = json.loads(
        run("status", "--store", demo_store, "--items", items, "--json", cwd=tmp_path).stdout
    )
    assert published["published"] == len(SAMPLE_IDS)
    assert published["gaps"] == {}
    empty = json.loads(
        run("status", "--store", tmp_path / "none", "--items", items, "--json", cwd=tmp_path).stdout
    )
    assert empty["published"] == 0
    assert empty["gaps"]["22KFV"] == ["2018-06-17", "2018-09-15", "2018-12-14"]


def test_foreign_files_are_told_and_hinder_neither_check_nor_retry(demo_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "out"
    shutil.copytree(demo_store, store)
    mask = next(store.rglob("cloudmask-*.tif"))
    foreign = [
        mask.with_name(f"{mask.name}.aux.xml"),
        store / "_failed" / "readme.txt",
        store / "_waiting" / "notes.json",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for more in ([], ["--repair"]):
        result = run("check", "--store", store, *more, cwd=tmp_path)
        assert (result.returncode, result.stdout.count("aux.xml")) == (0, 1), result.stdout
        assert "nothing wrong found" in result.stdout
        assert "1 object, which readers never see and a repair leaves alone" in result.stdout
    result = run("retry", "--store", store, cwd=tmp_path, CLOUDMASK_STAC_API_URL="http://127.0.0.1:9")
    assert (result.returncode, result.stdout) == (0, "nothing waits or failed\n")
    assert "_waiting/notes.json is not a state of this program" in result.stderr
    assert all(path.exists() for path in foreign)


def test_a_failed_scene_is_remembered_and_retried(demo_store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(demo_store / "sample-archive", archive)
    collection = json.loads((archive / "items.json").read_text())
    broken = collection["features"][0]
    raster = archive / broken["assets"]["B08"]["href"]
    whole = raster.read_bytes()
    raster.unlink()
    store = tmp_path / "out"
    first = run("ingest", "--items", archive / "items.json", "--store", store, "--json", cwd=tmp_path)
    assert first.returncode == 1
    assert [scene["id"] for scene in json.loads(first.stdout)["failed"]] == [broken["id"]]
    assert json.loads(run("status", "--store", store, "--json", cwd=tmp_path).stdout)["failed"] == 1

    raster.write_bytes(whole)
    again = run("retry", "--items", archive / "items.json", "--store", store, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["published"] == [broken["id"]]
    status = json.loads(run("status", "--store", store, "--json", cwd=tmp_path).stdout)
    assert (status["published"], status["failed"]) == (len(SAMPLE_IDS), 0)


def test_a_quarantined_scene_that_the_source_took_back_waits_to_be_forgotten(
    demo_store: Path, tmp_path: Path
) -> None:
    archive, store = tmp_path / "archive", tmp_path / "out"
    shutil.copytree(demo_store / "sample-archive", archive)
    collection = json.loads((archive / "items.json").read_text())
    broken = collection["features"][0]
    del broken["properties"]["s2:datatake_id"]
    (archive / "items.json").write_text(json.dumps(collection))
    options = ("--items", archive / "items.json", "--store", store, "--json")
    assert run("ingest", *options, cwd=tmp_path).returncode == 1
    collection["features"].remove(broken)
    (archive / "items.json").write_text(json.dumps(collection))
    # Of what a search leaves out, nothing is concluded.
    run("ingest", *options, "--ids", broken["id"], "--tile", "22KFV", cwd=tmp_path)
    status = json.loads(run("status", "--store", store, "--json", cwd=tmp_path).stdout)
    assert (status["waiting"], status["failed"]) == (0, 1)
    result = run("retry", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["waiting"] == [
        {"id": broken["id"], "reason": "the source does not list it now"}
    ]
    status = json.loads(run("status", "--store", store, "--json", cwd=tmp_path).stdout)
    assert (status["waiting"], status["failed"]) == (1, 0)


def test_a_repair_says_what_it_took_out_and_restores_what_is_sound_again(
    demo_store: Path, tmp_path: Path
) -> None:
    store = tmp_path / "out"
    shutil.copytree(demo_store, store)
    mask = next(store.glob("*/22K/22KFV/2018/*/cloudmask-*.tif"))
    body = mask.read_bytes()
    mask.unlink()
    found = run("check", "--store", store, cwd=tmp_path)
    assert found.returncode == 1
    assert "1 problem\ncloudmask check --repair mends what was found\n" in found.stdout
    repaired = run("check", "--repair", "--store", store, cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stdout
    assert "repaired, and looked again: nothing wrong found\nbroken items taken out" in repaired.stdout
    assert "whole" not in found.stdout + repaired.stdout
    mask.write_bytes(body)
    assert run("check", "--repair", "--store", store, cwd=tmp_path).returncode == 0
    deep = json.loads(run("check", "--deep", "--json", "--store", store, cwd=tmp_path).stdout)
    assert (deep["whole"], deep["items"], deep["problems"]) == (True, len(SAMPLE_IDS), 0)
