"""Which files of ours a command passes through.

A command runs in a process of its own, on the recorded scenes in ``tests/golden/archive``, one scene at a
time. Each call of a function in one of our files is seen, from when the items are opened (or from the start,
where the command has none) to the end. *Files* are those called into; a *change* is a call into another file
than the same thread's call before it. *Settings read* says how often the command builds settings from their
sources.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Any

import pydantic_settings

from benchmarks.measure import run_apart

ROOT = Path(__file__).parents[1]
ITEMS = ROOT / "tests" / "golden" / "archive" / "later.json"
COMMANDS = (
    f"ingest --items {ITEMS} --limit 1",
    f"watch --once --items {ITEMS} --tile 22KFV",
    f"status --items {ITEMS}",
    "check",
)
_SETTINGS_BUILT = inspect.unwrap(pydantic_settings.BaseSettings.__init__).__code__


class Trail:
    """Sees the calls of all threads, as a function for ``sys.setprofile``."""

    def __init__(self, packages: Iterable[str], begun: bool) -> None:
        self.files: set[str] = set()
        self.changes = 0
        self.settings_read = 0
        self._folders = tuple(f"{ROOT / package}{os.sep}" for package in packages)
        self._begun = begun
        self._thread = threading.local()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """See one event; only calls count, and neither modules' nor classes' bodies."""
        code = frame.f_code
        if event != "call" or not code.co_flags & inspect.CO_OPTIMIZED:
            return
        if code is _SETTINGS_BUILT:
            self.settings_read += 1
        elif self._begun and code.co_filename.startswith(self._folders):
            self.files.add(code.co_filename)
            self.changes += code.co_filename != getattr(self._thread, "file", None)
            self._thread.file = code.co_filename

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Notice that the items are opened."""
        if event == "open" and str(arguments[0]) == str(ITEMS):
            self._begun = True

    @contextlib.contextmanager
    def follow(self) -> Iterator[None]:
        """See what is called inside."""
        sys.addaudithook(self.audit)
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def measure_trails(packages: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return files, changes and settings read by command; the first one publishes a scene in a new store."""
    with tempfile.TemporaryDirectory() as store:
        return {
            command.replace(str(ITEMS), ITEMS.name): run_apart(
                functools.partial(_follow_command, [*command.split(), "--store", store], frozenset(packages))
            )
            for command in COMMANDS
        }


def _follow_command(arguments: list[str], packages: frozenset[str]) -> dict[str, int]:
    trail = Trail(packages, begun=str(ITEMS) not in arguments)
    (command,) = entry_points(group="console_scripts", name="cloudmask")
    run = command.load()
    sys.argv = ["cloudmask", "--json", "--no-prefect", *arguments]
    os.environ.update(CLOUDMASK_WORKERS="1", SOURCE_DATE_EPOCH="1700000000")
    with trail.follow(), contextlib.redirect_stdout(io.StringIO()):
        try:
            run()
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"cloudmask {' '.join(arguments)}: exit status {ended.code}") from ended
    return {"files": len(trail.files), "changes": trail.changes, "settings read": trail.settings_read}
