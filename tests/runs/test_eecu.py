"""What Earth Engine tells of a run's cost: told, noted by month, counted against a budget; what it does not, not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.budget import EecuMeter, build_workload_tag
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import ThreadRunner
from pc_cloudmask.settings import read_settings
from pc_cloudmask.storage.local import LocalStore
from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene, build_scene
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.items import build_item

NOW = datetime(2026, 11, 29, 14, 30, tzinfo=UTC)


@pytest.fixture
def request_(
    earth_engine: LocalEarthEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> IngestRequest:
    """Asks for one scene that Earth Engine has."""
    product = build_ragged_scene(SUNS[1], shape_20m=(113, 127))
    earth_engine.world.add_sentinel2(product)
    monkeypatch.setenv("CLOUDMASK_EARTHENGINE_URL", earth_engine.url)
    monkeypatch.setenv("CLOUDMASK_EARTHENGINE_PROJECT", "p")
    monkeypatch.setenv("CLOUDMASK_EARTHENGINE_CREDENTIALS", "anonymous")
    items = tmp_path / "item.json"
    items.write_text(json.dumps(build_item(build_scene(product))))
    return IngestRequest(items=str(items), store=str(tmp_path / "out"))


def run(request: IngestRequest, now: datetime = NOW) -> tuple[Report, int]:
    """The report, and how many scenes a budget left to a later run."""
    context = RunContext(request.read_settings(), request.items, now)
    try:
        report = ingest(context, request, ThreadRunner(1, retry_delay_s=0))
        return report, report.deferred
    finally:
        context.session.close()


def note_other_run(request: IngestRequest, eecu_seconds: object, month: str = "2026-11") -> None:
    folder = Path(str(request.store)) / "_watch" / "eecu" / month
    folder.mkdir(parents=True)
    (folder / "cloudmask-20261101t000000z.json").write_text(json.dumps({"eecu_seconds": eecu_seconds}))


def test_every_request_carries_the_tag_of_its_run(
    request_: IngestRequest, earth_engine: LocalEarthEngine
) -> None:
    report, _ = run(request_)
    asked = [request for request in earth_engine.requests if "compute" in request.path]
    assert len(asked) == 3
    assert {request.body["workloadTag"] for request in asked} == {"cloudmask-20261129t143000z"}
    assert report.transfer["workload_tag"] == "cloudmask-20261129t143000z"
    assert not any(name.startswith("eecu") for name in report.transfer)


def test_the_longest_tag_is_one_that_the_service_takes() -> None:
    tag = build_workload_tag(read_settings(workload_tag="a" * 42).workload_tag, NOW)
    assert len(tag) <= 63
    for wrong in ("", "Cloudmask", "-a", "a.b", "a" * 43, "a-"):
        with pytest.raises(SettingsError, match="workload_tag: must be 1 to 42 of a-z"):
            read_settings(workload_tag=wrong)


def test_what_a_scene_cost_is_told_and_noted(
    request_: IngestRequest, earth_engine: LocalEarthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDMASK_PROFILE", "true")
    earth_engine.tells_profiles = True
    report, _ = run(request_)
    # The local service tells 0.75 EECU-seconds of each request; pixels took two.
    assert report.transfer["eecu_scenes"] == {report.published[0]: 1.5}
    assert (report.transfer["eecu_seconds"], report.transfer["eecu_untold"]) == (1.5, 0)
    note = Path(str(request_.store)) / "_watch/eecu/2026-11/cloudmask-20261129t143000z.json"
    assert json.loads(note.read_text()) == {"eecu_seconds": 1.5, "scenes": 1}


def test_what_is_not_told_is_not_counted(
    request_: IngestRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLOUDMASK_EECU_BUDGET", "1")
    report, deferred = run(request_)
    assert (len(report.published), deferred) == (1, 0)
    assert (report.transfer["eecu_seconds"], report.transfer["eecu_untold"]) == (0, 1)
    assert "does not tell what 1 scenes cost: CLOUDMASK_EECU_BUDGET does not count them" in caplog.text
    assert not (Path(str(request_.store)) / "_watch" / "eecu").exists()


def test_a_month_that_used_up_its_budget_leaves_scenes_to_the_next(
    request_: IngestRequest, earth_engine: LocalEarthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDMASK_EECU_BUDGET", "0.5")
    earth_engine.tells_profiles = True
    note_other_run(request_, 1800.0)
    report, deferred = run(request_)
    assert (report.published, deferred) == ((), 1)
    assert not [request for request in earth_engine.requests if "compute" in request.path]
    report, deferred = run(request_, NOW.replace(month=12))
    assert (len(report.published), deferred) == (1, 0)


def test_a_note_of_another_form_counts_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = LocalStore(tmp_path)
    for number, body in enumerate((b"{", b"[]", b'{"eecu_seconds": "many"}', b'{"eecu_seconds": 1}')):
        store.write_object(f"_watch/eecu/2026-11/{number}.json", body, "application/json")
    meter = EecuMeter(lambda: store, "cloudmask-1", NOW, 1 / 3600)
    assert meter.is_used_up
    assert caplog.text.count("is not a note of this program") == 3
