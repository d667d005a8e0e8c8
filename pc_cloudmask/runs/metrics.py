"""A run's figures as Prometheus text, for node_exporter's textfile collector or whatever reads it."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, Histogram, write_to_textfile

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.report import Report

#: From a small scene's encoding to a full tile by the embedded network.
PHASE_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


def check_metrics(path: Path) -> None:
    """Raise if no file can be written to ``path``: a run of hours should not end with the news.

    Raises:
        SettingsError: it cannot.
    """
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingsError(f"CLOUDMASK_METRICS: {path} cannot be written: name a file in a folder that can")


def write_metrics(path: Path, command: str, report: Report, now: datetime) -> None:
    """Write the figures of the run of ``command`` that ended at ``now``; a reader sees the old file or the new.

    Raises:
        SettingsError: the file cannot be written.
    """
    try:
        write_to_textfile(str(path), build_metrics(command, report, now))
    except OSError as error:
        raise SettingsError(f"CLOUDMASK_METRICS: {path} cannot be written: {error.strerror}") from error


def build_metrics(command: str, report: Report, now: datetime) -> CollectorRegistry:
    """Return the figures of the run of ``command`` that ended at ``now``."""
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
