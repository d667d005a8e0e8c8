"""Scenes on a Dask cluster of two worker processes."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import dask
import pytest

from pc_cloudmask.errors import AssetRefused, EngineDenied, EngineUnavailable, SettingsError
from pc_cloudmask.runs.candidate import Candidate
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.report import Report, SceneOutcome, SceneState
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import DaskRunner, open_dask_runner
from pc_cloudmask.runs.watch import run_directly
from tests.direct_runs import read_tree
from tests.sample_archive import SAMPLE_IDS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fixed_clock")]


@pytest.fixture(scope="module")
def runner() -> Iterator[DaskRunner]:
    """Two processes."""
    with open_dask_runner(2, retry_delay_s=0.0) as runner:
        yield runner


def count_attempt(folder: Path, candidate: Candidate) -> int:
    """Number of this attempt at the scene, from 1."""
    with (folder / candidate.scene.id).open("a") as file:
        file.write("x")
        return file.tell()


def fail_once(folder: Path, candidate: Candidate) -> SceneOutcome:
    if count_attempt(folder, candidate) == 1:
        raise EngineUnavailable("quota")
    return SceneOutcome(candidate.scene.id, SceneState.PUBLISHED)


def refuse(folder: Path, candidate: Candidate) -> SceneOutcome:
    count_attempt(folder, candidate)
    raise AssetRefused(f"item {candidate.scene.id}: B08: too large")


def die_once(folder: Path, candidate: Candidate) -> SceneOutcome:
    if count_attempt(folder, candidate) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return SceneOutcome(candidate.scene.id, SceneState.PUBLISHED)


def test_two_workers_publish_what_one_thread_does(
    demo: IngestRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(store: Path) -> Report:
        request = demo.model_copy(update={"store": str(store)})
        return run_directly(RunContext.of(request), request)

    publish(tmp_path / "threads")
    monkeypatch.setenv("CLOUDMASK_RUNNER", "dask")
    monkeypatch.setenv("CLOUDMASK_WORKERS", "2")
    report = publish(tmp_path / "dask")
    assert len(report.published) == len(SAMPLE_IDS)
    assert read_tree(tmp_path / "dask") == read_tree(tmp_path / "threads")
    assert len(report.phases["derive"]) == len(SAMPLE_IDS)


def test_what_may_pass_is_tried_again(
    runner: DaskRunner, candidates: list[Candidate], tmp_path: Path
) -> None:
    outcomes = list(runner.run_scenes(partial(fail_once, tmp_path), candidates))
    assert {outcome.id for outcome in outcomes} == {candidate.scene.id for candidate in candidates}
    assert all(outcome.state is SceneState.PUBLISHED for outcome in outcomes)


def test_a_refusal_is_not(runner: DaskRunner, candidates: list[Candidate], tmp_path: Path) -> None:
    outcomes = list(runner.run_scenes(partial(refuse, tmp_path), candidates))
    assert all(outcome.error_class == "AssetRefused" and not outcome.retryable for outcome in outcomes)
    assert all(outcome.fingerprint for outcome in outcomes)
    assert all((tmp_path / candidate.scene.id).read_text() == "x" for candidate in candidates)


def deny(folder: Path, candidate: Candidate) -> SceneOutcome:
    count_attempt(folder, candidate)
    raise EngineDenied("these credentials may not compute in project p")


def test_a_fault_of_the_set_up_ends_the_run(
    runner: DaskRunner, candidates: list[Candidate], tmp_path: Path
) -> None:
    with pytest.raises(EngineDenied, match="may not compute"):
        list(runner.run_scenes(partial(deny, tmp_path), candidates))


def test_a_worker_that_dies_costs_no_scene(
    runner: DaskRunner, candidates: list[Candidate], tmp_path: Path
) -> None:
    outcomes = list(runner.run_scenes(partial(die_once, tmp_path), candidates[:1]))
    assert [outcome.state for outcome in outcomes] == [SceneState.PUBLISHED]


def test_no_scenes_end_at_once(runner: DaskRunner, tmp_path: Path) -> None:
    assert list(runner.run_scenes(partial(refuse, tmp_path), [])) == []


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    settings = {"scheduler-address": "tcp://127.0.0.1:9", "distributed.comm.timeouts.connect": "1s"}
    with (
        dask.config.set(settings),
        pytest.raises(SettingsError, match="DASK_SCHEDULER_ADDRESS"),
        open_dask_runner(2),
    ):
        pass


def test_the_time_of_a_run_goes_on_and_travels_with_it(demo: IngestRequest) -> None:
    begun = time.time() - 7200
    context = RunContext(demo.read_settings(), demo.items, demo.now, begun)
    for each in (context, pickle.loads(pickle.dumps(context))):
        assert each.read_time() - each.now >= timedelta(hours=2)


def test_adapters_travel_as_what_they_are_made_from(demo: IngestRequest) -> None:
    context = RunContext(demo.read_settings(), demo.items, demo.now)
    assert context.store  # an open adapter, which cannot travel
    there = pickle.loads(pickle.dumps(context))
    assert (there.settings, there.items, there.now) == (context.settings, context.items, context.now)
    assert pickle.loads(pickle.dumps(context)) is there
