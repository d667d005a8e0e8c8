"""Jobs run in this process, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pc_cloudmask.runs.candidate import Candidate, read_candidates
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import ThreadRunner
from pc_cloudmask.scene.query import SceneQuery

Test = TypeVar("Test", bound=Callable[..., Any])


def ignore_warnings_of_odc(test: Test) -> Test:
    """odc-geo calls what newer releases of affine and shapely advise against."""
    for message in (
        "ignore:Use `@` matmul:PendingDeprecationWarning",
        "ignore:The 'shapely.ops.transform..' function:DeprecationWarning",
    ):
        test = pytest.mark.filterwarnings(message)(test)
    return test


def run_directly(request: IngestRequest) -> Report:
    """``request`` as the command line runs it without Prefect."""
    context = RunContext.of(request)
    return ingest(context, request, ThreadRunner(2, retry_delay_s=0))


def read_tree(root: Path) -> dict[str, bytes]:
    """Every published file by its key."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        key: path.read_bytes()
        for path in files
        if not (key := path.relative_to(root).as_posix()).startswith("sample-archive/")
    }


def read_sample_candidates(demo: IngestRequest) -> list[Candidate]:
    """The candidates that the demo's request finds."""
    context = RunContext.of(demo)
    items = context.source.find_items(SceneQuery())
    return read_candidates(items, context.settings.method, context.parameters)[0]
