"""The log: one line per record, with run, item and phase, without secrets."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from pc_cloudmask.text import (
    LONGEST_LINE,
    encode_for_terminal,
    hide_values,
    keep_signatures_out_of_logs,
    make_lines_printable,
    make_printable,
)

if TYPE_CHECKING:
    from pc_cloudmask.settings import LogFormat


run_id: ContextVar[str] = ContextVar("run_id", default="")
item_id: ContextVar[str] = ContextVar("item_id", default="")
phase_name: ContextVar[str] = ContextVar("phase_name", default="")


class Phase(StrEnum):
    """Parts of the work on one scene."""

    DOWNLOAD = "download"
    DERIVE = "derive"
    ENCODE = "encode"
    PUBLISH = "publish"


class PhaseClock:
    """Seconds spent in each phase of the work on one item."""

    def __init__(self, item: str) -> None:
        self._item = item
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Measure the time spent inside; log records made there carry item and phase."""
        tokens = (item_id.set(self._item), phase_name.set(phase))
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started
            item_id.reset(tokens[0])
            phase_name.reset(tokens[1])


class TextFormatter(logging.Formatter):
    """``INFO pc_cloudmask.runs.runners [S2B_… derive]: message``; only lines of a traceback are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by those of a traceback."""
        where = " ".join(filter(None, (item_id.get(), phase_name.get())))
        name = f"{record.name} [{where}]" if where else record.name
        line = make_printable(f"{record.levelname} {name}: {record.getMessage()}", LONGEST_LINE)
        traceback = _format_traceback(self, record)
        return "\n".join([line, *(f"  {below}" for below in traceback.splitlines())])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message; run, item, phase and error if there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "run": run_id.get(),
            "item": item_id.get(),
            "phase": phase_name.get(),
        }
        shown = {name: make_printable(text, LONGEST_LINE) for name, text in fields.items() if text}
        if traceback := _format_traceback(self, record):
            shown["error"] = traceback
        return encode_for_terminal(shown)


def _format_traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.formatException(record.exc_info) if record.exc_info else ""
    return make_lines_printable(text, LONGEST_LINE)


def configure_logs(
    level: int, read_secrets: Callable[[], Iterable[str]], form: LogFormat | None = None
) -> None:
    """Write records of ``level`` and above to stderr, as text by default, replacing the present configuration."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    hide_values(read_secrets)
    keep_signatures_out_of_logs()
    logging.captureWarnings(capture=True)  # a library's warning may quote secrets in its input
    logging.basicConfig(level=level, handlers=[handler], force=True)
