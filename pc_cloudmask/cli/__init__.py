"""The ``cloudmask`` command, one module per group of commands: ``main`` is its entry point.

Each command imports what it needs when it runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import signal
import sys
import traceback
from types import ModuleType, TracebackType
from typing import Any, NoReturn

import typer

from pc_cloudmask.cli import app, catalog, evaluate, find, ingest, read  # noqa: F401 - they add their commands
from pc_cloudmask.text import make_lines_printable

__all__ = ["main"]
#: 128 plus the signal's number, as in shells.
_INTERRUPTED, _TERMINATED = 130, 143
_HOW_TO_GO_ON = "run the same command again to go on"


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    from pc_cloudmask.errors import CloudmaskError, find_machine_fault

    # rasterio imports it, for half of its own import time, to sign requests that nobody makes here.
    _put_off("boto3")
    for stream in (sys.stdout, sys.stderr):  # if a locale lacks a character, only that character is lost
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.excepthook = _report_defect
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app.app()
    except CloudmaskError as error:
        sys.exit(_report_error(error))
    except Exception as error:
        if (fault := find_machine_fault(error)) is None:
            raise
        sys.exit(_report_error(fault))
    except _Terminated:
        app.complain(f"terminated; {_HOW_TO_GO_ON}")
        sys.exit(_TERMINATED)
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # what Typer makes of Ctrl-C, without a word
            app.complain(f"interrupted; {_HOW_TO_GO_ON}")
        raise


class _Terminated(BaseException):
    """SIGTERM asks this process to end; no ``except Exception`` may prevent it."""


def _terminate(_signal: int, _frame: Any) -> NoReturn:
    """End as after Ctrl-C: finish what is under way, begin nothing else. The next SIGTERM kills."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise _Terminated


def _interrupt(_signal: int, _frame: Any) -> NoReturn:
    """Handle Ctrl-C; the next one kills, because what is under way may wait for a silent server."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _report_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error, which may repeat anything, as Python does but printable."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    typer.echo(make_lines_printable(lines), err=True)


def _report_error(error: Exception) -> int:
    """Print in one line what ended the run; return the exit status."""
    from pc_cloudmask.errors import EngineRefused, SourceMistaken, StoreRefused

    app.complain(str(error))
    refused = isinstance(error, StoreRefused | EngineRefused | SourceMistaken) or getattr(
        error, "ends_run", False
    )
    return app.EXIT_USAGE if refused else app.EXIT_FAILED


class _LaterModule(ModuleType):
    """A module that is imported on first use of its contents; an import statement alone does not count."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _put_off(name: str) -> None:
    if name not in sys.modules and (spec := importlib.util.find_spec(name)):
        later = _LaterModule(name)
        later.__spec__ = spec
        sys.modules[name] = later
