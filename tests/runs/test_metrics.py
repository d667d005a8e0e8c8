"""A run's figures as Prometheus reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.report import SceneOutcome, SceneState, build_report, write_metrics

NOW = datetime(2026, 11, 24, tzinfo=UTC)
REPORT = build_report(
    [
        SceneOutcome("a", SceneState.PUBLISHED, phases={"derive": 0.2, "publish": 0.05}),
        SceneOutcome("b", SceneState.PUBLISHED, phases={"derive": 2.0, "publish": 0.05}),
        SceneOutcome("c", SceneState.WAITING, "no image yet"),
        SceneOutcome("d", SceneState.FAILED, "broken"),
        SceneOutcome("e", SceneState.FAILED, "broken", held=True),
    ],
    3.5,
    transfer={"requests": 6, "bytes": 1000, "retries": 1, "splits": 0, "seconds": {"download": 1.0}},
    problems=("area far: no answer",),
)


def read_samples(path: Path) -> dict[tuple[str, str], float]:
    """Values by name and the label that is not the command."""
    samples = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            assert sample.labels["command"] == "watch"
            rest = [value for name, value in sorted(sample.labels.items()) if name != "command"]
            samples[sample.name, " ".join(rest)] = sample.value
    return samples


def test_a_run_is_told_by_its_counts_and_latencies(tmp_path: Path) -> None:
    path = tmp_path / "cloudmask.prom"
    path.write_text("old")
    write_metrics(path, "watch", REPORT, NOW)
    samples = read_samples(path)
    assert samples["cloudmask_run_scenes", "published"] == 2
    assert samples["cloudmask_run_scenes", "failed"] == 1
    assert samples["cloudmask_run_scenes", "held back"] == 1
    assert samples["cloudmask_run_whole", ""] == 0
    assert samples["cloudmask_run_problems", ""] == 1
    assert samples["cloudmask_run_timestamp_seconds", ""] == NOW.timestamp()
    assert samples["cloudmask_run_earthengine", "requests"] == 6
    assert samples["cloudmask_phase_seconds_count", "derive"] == 2
    assert samples["cloudmask_phase_seconds_sum", "derive"] == pytest.approx(2.2)
    assert samples["cloudmask_phase_seconds_bucket", "1.0 derive"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "x.prom"
    folder.mkdir()
    for path in (tmp_path / "absent" / "x.prom", folder):
        with pytest.raises(SettingsError, match="CLOUDMASK_METRICS"):
            write_metrics(path, "watch", REPORT, NOW)
    assert list(tmp_path.iterdir()) == [folder]
