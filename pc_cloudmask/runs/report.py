"""The result of a run, scene by scene, and its metrics as Prometheus text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge


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
    by_state: dict[SceneState, list[SceneOutcome]] = {state: [] for state in SceneState}
    held_back: list[SceneOutcome] = []
    phases: dict[str, tuple[float, ...]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.id):
        untried_failure = outcome.held and outcome.state is SceneState.FAILED
        (held_back if untried_failure else by_state[outcome.state]).append(outcome)
        for phase, seconds_of_phase in outcome.phases.items():
            phases[phase] = (*phases.get(phase, ()), seconds_of_phase)
    return Report(
        published=tuple(outcome.id for outcome in by_state[SceneState.PUBLISHED]),
        provisional=tuple(outcome.id for outcome in by_state[SceneState.PUBLISHED] if outcome.provisional),
        skipped=tuple(outcome.id for outcome in by_state[SceneState.SKIPPED]),
        waiting=tuple(by_state[SceneState.WAITING]),
        failed=tuple(by_state[SceneState.FAILED]),
        held_back=tuple(held_back),
        seconds=seconds,
        phases=phases,
        **extra,
    )


#: From the encoding of a small scene to a full tile by the embedded network.
PHASE_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


def check_metrics(path: Path) -> None:
    """Check that a file can be written to ``path``, so that a run of hours does not fail at the end.

    Raises:
        SettingsError: it cannot.
    """
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingsError(f"CLOUDMASK_METRICS: {path} cannot be written: name a file in a folder that can")


def write_metrics(path: Path, command: str, report: Report, now: datetime) -> None:
    """Write the metrics of the run of ``command`` that ended at ``now``, replacing the file atomically.

    Raises:
        SettingsError: the file cannot be written.
    """
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
    for what in ("requests", "bytes", "retries", "splits", "eecu_seconds", "eecu_untold"):
        if what in report.transfer:
            exchanged.labels(command, what).set(report.transfer[what])
    if "eecu_scenes" in report.transfer:
        exchanged.labels(command, "eecu_scenes").set(len(report.transfer["eecu_scenes"]))
    phases = Histogram(
        "cloudmask_phase_seconds",
        "Seconds of work on a scene by phase",
        ["command", "phase"],
        registry=registry,
        buckets=PHASE_BUCKETS_S,
    )
    for phase, seconds in sorted(report.phases.items()):
        for second in seconds:
            phases.labels(command, phase).observe(second)
    return registry
