"""The licences of everything that is installed with the package, its extras included but for ``APART``.

Every licence that a distribution names must be on the list in ``licences.toml``; one that names none, or a
choice of which one part is not on the list, stands there by name with what a look at it showed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "pc-cloudmask"
RULES = Path(__file__).with_name("licences.toml")
#: Extras that no lock file of ours but their own has, and that CI never installs: PyTorch brings NVIDIA's libraries
#: under NVIDIA's licence, which whoever installs the extra accepts.
APART = frozenset({"omnicloudmask"})
_CONNECTIVES = re.compile(r" AND | OR |; |[()]")


def find_dependencies(project: str) -> set[str]:
    """Names of the installed distributions that ``project`` needs with all its extras."""
    extras = frozenset(metadata(project).get_all("Provides-Extra") or ()) - APART
    found: set[tuple[str, str]] = set()
    pending = [(project, extra) for extra in {"", *extras}]
    while pending:
        name, extra = pending.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for needed in map(Requirement, requires(name) or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                pending += [(canonicalize_name(needed.name), part) for part in {"", *needed.extras}]
    return {name for name, _ in found} - {project}


def read_licences(names: set[str]) -> dict[str, str]:
    """Return what each distribution says of its licence, in one line."""
    command = [Path(sys.executable).with_name("pip-licenses"), "--from=mixed", "--format=json", "--packages"]
    answer = subprocess.run([*command, *sorted(names)], capture_output=True, check=True)
    listed = {canonicalize_name(entry["Name"]): entry["License"] for entry in json.loads(answer.stdout)}
    return {name: listed.get(name, "UNKNOWN").partition("\n")[0].strip() for name in names}


def find_problems(licences: dict[str, str], allowed: set[str], reviewed: dict[str, str]) -> list[str]:
    """Return a line for each distribution whose licence is neither on the list nor reviewed."""
    problems = []
    for name, text in sorted(licences.items()):
        parts = {part.strip() for part in _CONNECTIVES.split(text)} - {""}
        if name not in reviewed and not parts <= allowed:
            problems.append(f"{name}: {text}: look at it, then add it to {RULES.name}, or do without it")
    stale = sorted(set(reviewed) - set(licences))
    return problems + [f"{name}: reviewed, and no longer needed: take it off {RULES.name}" for name in stale]


def main() -> int:
    rules = tomllib.loads(RULES.read_text("utf-8"))
    licences = read_licences(find_dependencies(PROJECT))
    problems = find_problems(licences, set(rules["allowed"]), rules["reviewed"])
    print("\n".join([*problems, f"{len(licences)} dependencies' licences, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
