"""The names of all tests, wherever they stand."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def collect_names() -> list[str]:
    """Return the sorted names, as ``test_name[parameters]`` or ``TestClass::test_name``; some occur twice.

    Raises:
        subprocess.CalledProcessError: pytest cannot collect all tests; it has said why.
    """
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--no-header", "tests"]
    collected = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if collected.returncode:
        sys.stderr.write(collected.stdout)
    collected.check_returncode()
    return sorted(line.split("::", 1)[1] for line in collected.stdout.splitlines() if "::" in line)


def describe_missing(before: list[str], after: list[str]) -> list[str]:
    """Return a line for each test that is gone."""
    missing = Counter(before) - Counter(after)
    return [f"- {name}" + (f" ({count} times)" if count > 1 else "") for name, count in missing.items()]
