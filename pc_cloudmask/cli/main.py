"""The entry point: every command, signals, and the exit status of errors."""

from __future__ import annotations

import importlib
import importlib.util
import io
import signal
import sys
from types import ModuleType
from typing import Any

from pc_cloudmask.cli import (  # noqa: F401 - they add their commands
    catalog,
    evaluate,
    find,
    ingest,
    read,
)
from pc_cloudmask.cli.app import (
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    Terminated,
    app,
    interrupt,
    report_defect,
    report_error,
    report_stop,
    terminate,
)


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    from pc_cloudmask.errors import CloudmaskError, find_machine_fault

    # rasterio imports it, for half of its own import time, to sign requests that nobody makes here.
    _put_off("boto3")
    for stream in (sys.stdout, sys.stderr):  # if a locale lacks a character, only that character is lost
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.excepthook = report_defect
    signal.signal(signal.SIGTERM, terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, interrupt)
    try:
        app()
    except CloudmaskError as error:
        sys.exit(report_error(error))
    except Exception as error:
        if (fault := find_machine_fault(error)) is None:
            raise
        sys.exit(report_error(fault))
    except Terminated:
        report_stop("terminated")
        sys.exit(EXIT_TERMINATED)
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # what Typer makes of Ctrl-C, without a word
            report_stop("interrupted")
        raise


class _LaterModule(ModuleType):
    """A module that is imported on first use of its contents; an import statement alone does not count."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _put_off(name: str) -> None:
    """Defer the import of a module."""
    if name not in sys.modules and (spec := importlib.util.find_spec(name)):
        later = _LaterModule(name)
        later.__spec__ = spec
        sys.modules[name] = later
