"""No door publishes a path of this machine where others read: not the command alone, but each job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.plan import plan_ingest
from pc_cloudmask.runs.request import IngestRequest, RunRequest, WatchRequest
from pc_cloudmask.runs.runners import ThreadRunner
from pc_cloudmask.runs.watch import watch
from tests.cli.test_commands import write_item

PUBLIC_URL = "https://masks.example.com"
JOBS: list[tuple[type[RunRequest], Callable[[RunContext, Any], object]]] = [
    (IngestRequest, lambda context, request: ingest(context, request, ThreadRunner(1))),
    (IngestRequest, plan_ingest),
    (WatchRequest, lambda context, request: watch(context, request, ThreadRunner(1))),
]


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_METHOD", "csmask")


@pytest.mark.parametrize(("kind", "job"), JOBS)
@pytest.mark.parametrize(("store", "public_url"), [("s3://bucket/masks", ""), ("out", PUBLIC_URL)])
def test_every_job_refuses_local_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[RunRequest],
    job: Callable[[RunContext, Any], object],
    store: str,
    public_url: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if public_url:
        monkeypatch.setenv("CLOUDMASK_PUBLIC_URL", public_url)
    request = kind(items=str(write_item(tmp_path, "B02.tif")), tiles=("22KFV",), store=store)
    with pytest.raises(SettingsError, match="is a local file, which readers of"):
        job(RunContext.of(request), request)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("href", ["https://sentinel2l2a01.blob.core.windows.net/a/B02.tif", "B02.tif"])
def test_what_readers_reach_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, href: str
) -> None:
    monkeypatch.setenv("CLOUDMASK_PUBLIC_URL", PUBLIC_URL)
    items = write_item(tmp_path, href)
    # Local files within the store are published with it.
    store = tmp_path if href == "B02.tif" else tmp_path / "out"
    request = IngestRequest(items=str(items), store=str(store))
    assert len(plan_ingest(RunContext.of(request, read_only=True), request).would_publish) == 1
