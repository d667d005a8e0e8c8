"""The command in a process of its own, and what it left behind."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.fields import CatalogContext
from pc_cloudmask.catalog.findings import CheckReport
from pc_cloudmask.storage.stores import open_store
from tests.doubles import command

#: Every run happens at this instant, so that equal work leaves equal bytes.
SOURCE_DATE_EPOCH = "1700000000"


def run(
    *arguments: str | Path,
    cwd: Path,
    environment: dict[str, str] | None = None,
    prelude: str = "",
    alone: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the command at the instant of every run, after the Python of ``prelude``.

    One that runs ``alone`` has an interpreter of its own, whose memory holds nothing but what it needs.
    """
    settings = {"SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, **(environment or {})}
    start = command.run_in_new_interpreter if alone else command.run
    return start(*arguments, cwd=cwd, prelude=prelude, **settings)


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
