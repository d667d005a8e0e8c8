"""Stores that may only be read: checked, counted, searched and dry-run; nothing is probed or written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import CONTEXT, NOW, build_publication, product_id
from tests.doubles.breaking_front import running_breaking_front
from tests.doubles.s3_server import S3Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SOURCE_ITEM = ROOT / "tests" / "data" / "source-item.json"
PUBLISHED = [product_id(0), product_id(5), product_id(400)]
#: Runs the readers twice in one process, the second time without the right to write: once its files are
#: loaded it needs no right to read them, and a mode of a directory binds everybody but root.
PROGRAM = """
import json, os, sys
from typer.testing import CliRunner
import pc_cloudmask
from pc_cloudmask.cli import main
from pc_cloudmask.cli.app import app

def read(*arguments):
    result = CliRunner().invoke(app, ["--json", *arguments, "--store", store])
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)

def read_all():
    items = pc_cloudmask.find_items(["22KFV"], store=store)
    return {
        "check": read("check"),
        "status": read("status"),
        "plan": read("ingest", "--items", items_file, "--method", "csmask", "--dry-run"),
        "found": sorted(item.id for item in items),
    }

store, items_file = sys.argv[1:]
first = read_all()
if os.geteuid() == 0 and not store.startswith("s3://"):
    os.setgid(65534)
    os.setuid(65534)
    assert not os.access(store, os.W_OK)
second = read_all()
assert first == second
print(json.dumps(second))
"""


def publish(store: ObjectStore) -> None:
    publisher = Publisher(store, CONTEXT, NOW)
    publications = [build_publication(item_id) for item_id in PUBLISHED]
    for publication in publications:
        publisher.publish_item(publication)
    publisher.publish_catalogs(publication.keys for publication in publications)


def run_readers(store: str, cwd: Path, **environment: str) -> dict[str, Any]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLOUDMASK_", "PREFECT_", "AWS_", "PYTEST_"))
    }
    items = shutil.copy(SOURCE_ITEM, cwd / "item.json")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, store, str(items)],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(cwd / "prefect"), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def check_report(report: dict[str, Any]) -> None:
    assert report["check"]["whole"]
    assert report["check"]["items"] == len(PUBLISHED)
    assert report["status"]["published"] == len(PUBLISHED)
    assert report["found"] == sorted(PUBLISHED)
    assert len(report["plan"]["would_publish"]) == 1


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="cloudmask-tests-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        for each in path.rglob("*"):
            each.chmod(0o755)


def test_a_directory_that_may_only_be_read(folder: Path) -> None:
    root = folder / "store"
    publish(open_store(str(root)))
    shutil.rmtree(root / ".tmp")
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    check_report(run_readers(str(root), folder))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_credentials_that_may_only_read(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3_server.use(monkeypatch)
    url = f"s3://{s3_server.create_bucket()}/masks"
    publish(open_store(url))
    with running_breaking_front(s3_server.url) as (front, script):
        script.always |= {"put": "denied", "delete": "denied"}
        environment = {**s3_server.environment(), "AWS_ENDPOINT_URL": front}
        check_report(run_readers(url, tmp_path, **environment))
        assert set(script.seen) <= {"list", "get", "head"}
