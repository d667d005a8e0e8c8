"""How long the command line takes before it works.

Seconds by the clock of a new process, its files in the page cache; other work on the machine lengthens
them. The dry run reads an ItemCollection of the four sample scenes and looks into an empty directory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Figure, Peer, Row, compare_costs
from pc_cloudmask.demo.archive import build_sample_archive

RUNS = 11
HELP_BUDGET_S, DRY_RUN_BUDGET_S = 0.5, 1.5


def measure() -> list[Row]:
    """Seconds of ``cloudmask --help`` and of a dry run, against their budgets."""
    with tempfile.TemporaryDirectory() as name:
        items = build_sample_archive(Path(name) / "archive")
        store = Path(name) / "store"
        dry_run = ["ingest", "--items", str(items), "--store", str(store), "--dry-run", "--json"]
        return [
            compare_costs(
                "`cloudmask --help`", time_command(["--help"]), Peer("budget", HELP_BUDGET_S), "s", 1
            ),
            compare_costs(
                "`cloudmask ingest --dry-run`",
                time_command(dry_run),
                Peer("budget", DRY_RUN_BUDGET_S),
                "s",
                1,
            ),
        ]


def time_command(arguments: Sequence[str]) -> Figure:
    """Seconds that ``cloudmask`` takes with ``arguments``, after one run to warm up.

    Raises:
        subprocess.CalledProcessError: it did not end well.
    """
    seconds = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        command = [sys.executable, "-m", "pc_cloudmask", *arguments]
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return Figure.of(seconds[1:])
