"""What the Grafana dashboard and the alert rules ask for is what runs write."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from pc_cloudmask.runs.report import Report, build_metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "cloudmask.json").read_text())
RULES = DEPLOY / "prometheus" / "cloudmask.yaml"
#: What Prometheus adds of where a figure is from, and the dashboard's variables.
ADDED = {"instance", "datasource"}


def read_rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def list_expressions() -> list[str]:
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked += [
        variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable
    ]
    return asked + [rule["expr"] for rule in read_rules()]


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, set[str]]]:
    """The label values of every sample that a run writes, by label, by name of the sample."""
    transfer = dict.fromkeys(("requests", "bytes", "retries", "splits"), 1)
    report = Report(transfer=transfer, phases={"derive": (1.0,)})
    samples: dict[str, dict[str, set[str]]] = {}
    for command in ("ingest", "watch"):
        for metric in build_metrics(command, report, datetime.now(UTC)).collect():
            for sample in metric.samples:
                for label, value in sample.labels.items():
                    samples.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return samples


def test_all_that_is_asked_for_is_written(written: dict[str, dict[str, set[str]]]) -> None:
    assert len(list_expressions()) > 15
    for expression in list_expressions():
        names = set(re.findall(r"\bcloudmask_\w+", expression))
        assert names, expression
        assert names <= set(written), expression


def test_labels_and_their_values_are_ones_that_are_written(written: dict[str, dict[str, set[str]]]) -> None:
    for expression in list_expressions():
        for name, selector in re.findall(r"\b(cloudmask_\w+)\{([^}]*)\}", expression):
            for label, value in re.findall(r'(\w+)(?:=|!=|=~)"([^"]*)"', selector):
                assert label in {*written[name], *ADDED}, expression
                values = set(value.split("|")) - {f"${label}"}
                assert values <= written[name].get(label, set()), expression


def test_every_figure_that_is_written_is_drawn(written: dict[str, dict[str, set[str]]]) -> None:
    text = json.dumps(DASHBOARD)
    kept = {name for name in written if not name.endswith("_created")}
    assert {name for name in kept if name not in text} == set()


def test_panels_say_what_they_show_and_lie_side_by_side() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"].endswith(".") for panel in panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    for rule in read_rules():
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_rules() -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
