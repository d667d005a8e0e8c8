"""What a run tells: its result, scene by scene, its metrics as Prometheus text, and its log.

A record of the log is one line, with run, item and phase, without secrets.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.text import (
    LONGEST_LINE,
    encode_for_terminal,
    hide_values,
    keep_signatures_out_of_logs,
    make_lines_printable,
    make_printable,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge

    from pc_cloudmask.settings import LogFormat

#: From the encoding of a small scene to a full tile by the embedded network.
PHASE_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
run_id: ContextVar[str] = ContextVar("run_id", default="")
item_id: ContextVar[str] = ContextVar("item_id", default="")
phase_name: ContextVar[str] = ContextVar("phase_name", default="")


class SceneState(StrEnum):
    """How a run left a scene."""

    PUBLISHED = "published"
    SKIPPED = "skipped"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SceneOutcome:
    """How one scene ended in this run; ``reason`` is empty if its mask is final.

    ``held`` says that an earlier run left it like this and this run did not try it. ``fingerprint`` identifies what
    determines the mask, empty if unknown. ``phases`` are seconds by phase, ``item_key`` is the key of a published item,
    ``cover_pct`` the percentages of ``cloud`` and ``shadow``. For a published or skipped scene, ``provisional`` says
    that a better method will make its mask again; for others, ``lacks_input`` says that the method's input was missing.
    """

    id: str
    state: SceneState
    reason: str = ""
    retryable: bool = False
    error_class: str = ""
    held: bool = False
    fingerprint: str = ""
    item_key: str = ""
    cover_pct: Mapping[str, float] = field(default_factory=dict, hash=False, compare=False)
    provisional: bool = False
    lacks_input: bool = False
    phases: Mapping[str, float] = field(default_factory=dict, hash=False, compare=False)

    def as_failure(self) -> dict[str, Any]:
        """Return the entry for a failed scene in a report's JSON."""
        return {"id": self.id, "error": self.reason, "retryable": self.retryable}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of ``ingest``, ``watch`` and ``retry``; its JSON form is fixed by docs/contract.md."""

    published: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    waiting: tuple[SceneOutcome, ...] = ()
    failed: tuple[SceneOutcome, ...] = ()
    withdrawn: tuple[str, ...] = ()
    seconds: float = 0.0
    transfer: dict[str, Any] = field(default_factory=dict)
    held_back: tuple[SceneOutcome, ...] = ()
    provisional: tuple[str, ...] = ()
    deferred: int = 0
    unpushed: int = 0
    problems: tuple[str, ...] = ()
    phases: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def ids(self) -> frozenset[str]:
        """The ids of every scene that the run met."""
        noted = (*self.waiting, *self.failed, *self.held_back)
        return frozenset((*self.published, *self.skipped, *(scene.id for scene in noted)))

    @property
    def is_whole(self) -> bool:
        """True if the run did all it was asked to: no scene failed, and every source could be reached."""
        return not (self.failed or self.problems)

    @property
    def counts(self) -> dict[str, int]:
        """Number of scenes by outcome; provisional ones also count as published."""
        return {
            "published": len(self.published),
            "provisional": len(self.provisional),
            "skipped": len(self.skipped),
            "waiting": len(self.waiting),
            "failed": len(self.failed),
            "withdrawn": len(self.withdrawn),
            "held back": len(self.held_back),
            "left to the next run": self.deferred,
        }

    @property
    def summary(self) -> str:
        """One line for people: ``3 published, 1 waiting in 2.1 s``."""
        text = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        unpushed = f"; {self.unpushed} events not pushed" if self.unpushed else ""
        return f"{text or 'no scene found'} in {self.seconds:.1f} s{unpushed}"

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values; the last six are included only if not empty."""
        further = {
            "provisional": self.provisional,
            "held_back": [{"id": scene.id, "error": scene.reason} for scene in self.held_back],
            "deferred": self.deferred,
            "unpushed": self.unpushed,
            "problems": self.problems,
            "transfer": self.transfer,
        }
        return {
            "published": self.published,
            "skipped": self.skipped,
            "waiting": [{"id": scene.id, "reason": scene.reason} for scene in self.waiting],
            "failed": [scene.as_failure() for scene in self.failed],
            "withdrawn": self.withdrawn,
            "seconds": round(self.seconds, 3),
            **{name: value for name, value in further.items() if value},
        }


class Observer:
    """Receives the progress of a run; this base class ignores it."""

    def scenes_found(self, count: int) -> None:
        """Handle that ``count`` more scenes were found."""

    def scene_ended(self, outcome: SceneOutcome) -> None:
        """Handle the outcome of one scene."""


def build_report(outcomes: Iterable[SceneOutcome], seconds: float, **extra: Any) -> Report:
    """Return the outcomes by state, each list sorted by scene id so that equal runs give equal reports.

    ``extra`` are further fields of ``Report``.
    """
    by_state: dict[str, list[SceneOutcome]] = {name: [] for name in (*SceneState, "held back")}
    phases: dict[str, tuple[float, ...]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.id):
        untried_failure = outcome.held and outcome.state is SceneState.FAILED
        by_state["held back" if untried_failure else outcome.state].append(outcome)
        for phase, seconds_of_phase in outcome.phases.items():
            phases[phase] = (*phases.get(phase, ()), seconds_of_phase)
    published = by_state[SceneState.PUBLISHED]
    return Report(
        published=tuple(outcome.id for outcome in published),
        provisional=tuple(outcome.id for outcome in published if outcome.provisional),
        skipped=tuple(outcome.id for outcome in by_state[SceneState.SKIPPED]),
        waiting=tuple(by_state[SceneState.WAITING]),
        failed=tuple(by_state[SceneState.FAILED]),
        held_back=tuple(by_state["held back"]),
        seconds=seconds,
        phases=phases,
        **extra,
    )


def check_metrics(path: Path) -> None:
    """Raise ``SettingsError`` unless a file can be written to ``path``: a run of hours must not fail at its end."""
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingsError(f"CLOUDMASK_METRICS: {path} cannot be written: name a file in a folder that can")


def write_metrics(path: Path, command: str, report: Report, now: datetime) -> None:
    """Write the metrics of a run that ended at ``now``, replacing the file atomically, or raise ``SettingsError``."""
    from prometheus_client import write_to_textfile  # noqa: PLC0415 - heavy

    try:
        write_to_textfile(str(path), build_metrics(command, report, now))
    except OSError as error:
        raise SettingsError(f"CLOUDMASK_METRICS: {path} cannot be written: {error.strerror}") from error


def build_metrics(command: str, report: Report, now: datetime) -> CollectorRegistry:
    """Return the metrics of the run of ``command`` that ended at ``now``."""
    from prometheus_client import CollectorRegistry, Gauge, Histogram  # noqa: PLC0415 - heavy

    registry = CollectorRegistry()

    def open_gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"cloudmask_run_{name}", text, ["command", *labels], registry=registry)

    open_gauge("timestamp_seconds", "When the last run ended").labels(command).set(now.timestamp())
    open_gauge("seconds", "How long the last run took").labels(command).set(report.seconds)
    open_gauge("whole", "1 if the last run did all it was asked to").labels(command).set(report.is_whole)
    open_gauge("problems", "Sources and areas out of reach").labels(command).set(len(report.problems))
    scenes = open_gauge("scenes", "Scenes by how the run left them", "state")
    for state, count in report.counts.items():
        scenes.labels(command, state).set(count)
    exchanged = open_gauge("earthengine", "What was exchanged with Earth Engine", "what")
    for what in ("requests", "bytes", "retries", "splits", "eecu_seconds", "eecu_untold", "eecu_scenes"):
        if what in report.transfer:
            figure = report.transfer[what]
            exchanged.labels(command, what).set(len(figure) if what == "eecu_scenes" else figure)
    text, labels = "Seconds of work on a scene by phase", ["command", "phase"]
    phases = Histogram("cloudmask_phase_seconds", text, labels, registry=registry, buckets=PHASE_BUCKETS_S)
    for phase, seconds in sorted(report.phases.items()):
        for second in seconds:
            phases.labels(command, phase).observe(second)
    return registry


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
