"""The command in a process of its own, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.findings import CheckReport
from pc_cloudmask.storage.stores import open_store

ROOT = Path(__file__).parents[2]
PROGRAM = "from pc_cloudmask.cli.main import main; main()"
SOURCE_DATE_EPOCH = "1700000000"
"""Every run happens at this instant, so that equal work leaves equal bytes."""


@contextmanager
def running(
    *arguments: str | Path,
    cwd: Path,
    environment: dict[str, str] | None = None,
    prelude: str = "",
) -> Iterator[subprocess.Popen[str]]:
    """``cloudmask`` with ``arguments``, gone in the end; nothing of the caller's settings reaches it.

    ``prelude`` is Python that the process runs first.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLOUDMASK_", "PREFECT_", "AWS_", "PC_SDK_", "PYTEST_"))
    }
    with subprocess.Popen(
        [sys.executable, "-c", f"{prelude}\n{PROGRAM}", *map(str, arguments)],
        cwd=cwd,
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(cwd / "prefect"),
            "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(
    *arguments: str | Path,
    cwd: Path,
    environment: dict[str, str] | None = None,
    prelude: str = "",
) -> subprocess.CompletedProcess[str]:
    """What the command said, and its exit status."""
    with running(*arguments, cwd=cwd, environment=environment, prelude=prelude) as process:
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def read_report(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON object that ``--json`` printed."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def check_store(url: str) -> CheckReport:
    """What ``check`` finds in the store, at the instant of every run."""
    now = datetime.fromtimestamp(int(SOURCE_DATE_EPOCH), UTC)
    return check_catalog(open_store(url), CatalogContext(), repair=False, now=now)


def read_tree(root: Path) -> dict[str, bytes]:
    """Every file below ``root``, hidden ones too, by its relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
