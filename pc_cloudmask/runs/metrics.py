"""A run's figures as Prometheus text, for node_exporter's textfile collector or whatever reads it."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.report import Report

#: From a small scene's encoding to a full tile by the embedded network.
PHASE_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


def check_metrics(path: Path) -> None:
    """Nothing, where a file can be written to ``path``: a run of hours should not end with the news.

    Raises:
        SettingsError: it cannot.
    """
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise SettingsError(f"CLOUDMASK_METRICS: {path} cannot be written: name a file in a folder that can")


def write_metrics(path: Path, command: str, report: Report, now: datetime) -> None:
    """Write the figures of the run of ``command`` that ended at ``now``, in one piece.

    Raises:
        SettingsError: the file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            written = Path(folder, path.name)
            written.write_bytes(render_metrics(command, report, now))
            written.chmod(0o644)
            written.replace(path)
    except OSError as error:
        raise SettingsError(f"CLOUDMASK_METRICS: {path} cannot be written: {error.strerror}") from error


def render_metrics(command: str, report: Report, now: datetime) -> bytes:
    """The figures of the run of ``command`` that ended at ``now``."""
    registry = CollectorRegistry()
    gauges = {
        "cloudmask_run_timestamp_seconds": ("When the last run ended", now.timestamp()),
        "cloudmask_run_seconds": ("How long the last run took", report.seconds),
        "cloudmask_run_whole": ("1 if the last run did all it was asked to", float(report.is_whole)),
        "cloudmask_run_problems": ("Sources and areas out of reach", len(report.problems)),
    }
    for name, (text, value) in gauges.items():
        Gauge(name, text, ["command"], registry=registry).labels(command).set(value)
    scenes = Gauge(
        "cloudmask_run_scenes", "Scenes by how the run left them", ["command", "state"], registry=registry
    )
    for state, count in report.counts.items():
        scenes.labels(command, state).set(count)
    transfer = Gauge(
        "cloudmask_run_earthengine",
        "What was exchanged with Earth Engine",
        ["command", "what"],
        registry=registry,
    )
    for what in ("requests", "bytes", "retries", "splits"):
        if what in report.transfer:
            transfer.labels(command, what).set(report.transfer[what])
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
    return generate_latest(registry)
