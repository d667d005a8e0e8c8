"""The log: one line a record, with run, item and phase, without secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from flows.adapters.signatures import redact_lines
from flows.phases import item_id, phase_name, run_id

if TYPE_CHECKING:
    from flows.settings import LogFormat

_SHORTEST_SECRET = 8
"""A shorter value would be cut out of innocent words."""


class _Redacting(logging.Formatter):
    """Formats a record without signatures, credentials, or any of the secrets that ``read_secrets`` gives."""

    def __init__(self, read_secrets: Callable[[], Iterable[str]]) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._read_secrets = read_secrets

    @cached_property
    def _secrets(self) -> list[str]:
        """Read at the first record: who only asks for help pays for no settings."""
        return [secret for secret in self._read_secrets() if len(secret) >= _SHORTEST_SECRET]

    def redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact_lines(text)


class TextFormatter(_Redacting):
    """``INFO flows.runners [S2B_… derive]: message``."""

    def format(self, record: logging.LogRecord) -> str:
        where = " ".join(filter(None, (item_id.get(), phase_name.get())))
        text = super().format(record)
        if where:
            text = text.replace(f"{record.name}: ", f"{record.name} [{where}]: ", 1)
        return self.redact(text)


class JsonFormatter(_Redacting):
    """One JSON object a line: time, level, logger, message; run, item, phase, error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "run": run_id.get(),
            "item": item_id.get(),
            "phase": phase_name.get(),
            "error": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({name: self.redact(text) for name, text in fields.items() if text})


def configure_logs(
    level: int, read_secrets: Callable[[], Iterable[str]], form: LogFormat | None = None
) -> None:
    """Write records of ``level`` and above to stderr, as text by default; in place of what was configured."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter if form == "json" else TextFormatter
    handler.setFormatter(formatter(read_secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)
