"""Fuzz every target, or those named, and print a table: ``python -m tests.fuzz [--seconds N] [TARGET…]``.

A crash leaves its input in ``crash-TARGET-…`` in the working directory;
``python -m tests.fuzz.harness TARGET FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from tests.fuzz.targets import TARGETS

LONGEST_INPUT = 4096
SLOWEST_S = 20
"""An execution that takes longer counts as a crash."""
MOST_MEMORY_MB = 1500
_EXECUTIONS = re.compile(r"^(?:#|Done )(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """How one target fared; ``log`` is libFuzzer's."""

    target: str
    executions: int
    crashed: bool
    log: str


def fuzz(target: str, *limits: str) -> Result:
    """Fuzz one target in a process of its own."""
    # A child's peak begins at what its parent held when it was made: a worker of pytest's may hold gigabytes.
    held_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    options = [
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={MOST_MEMORY_MB + held_mb}",
        f"-artifact_prefix=crash-{target}-",
        *limits,
    ]
    with tempfile.TemporaryDirectory(prefix="cloudmask-fuzz-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.harness", target, *options],
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    executions = max((int(count) for count in _EXECUTIONS.findall(done.stderr)), default=0)
    return Result(target, executions, done.returncode != 0, done.stdout + done.stderr)


def main() -> int:
    """The exit status: 1 where something crashed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    arguments = parser.parse_args()
    results = []
    for target in arguments.targets:
        result = fuzz(target, f"-max_total_time={arguments.seconds}")
        results.append(result)
        if result.crashed:
            print(result.log[-4000:])
        print(f"{target:12} {result.executions:>10,} executions, {int(result.crashed)} crashes", flush=True)
    crashes = sum(result.crashed for result in results)
    print(f"{'all':12} {sum(result.executions for result in results):>10,} executions, {crashes} crashes")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
