"""Which errors of a scene Prefect tries again."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.exceptions import CrashedRun
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from pc_cloudmask.errors import AssetRefused, CloudmaskError, EngineDenied, EngineUnavailable
from pc_cloudmask.flows.tasks import Limits, PrefectRunner, publish_scene
from pc_cloudmask.runs.candidate import Candidate

pytestmark = pytest.mark.usefixtures("fixed_clock")


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (Failed(data=EngineUnavailable("quota")), True),
        (Failed(data=AssetRefused("too large")), False),
        (Failed(data=ZeroDivisionError("ours")), False),
    ],
)
def test_only_what_may_pass_is_tried_again(state: Any, again: bool) -> None:
    assert publish_scene.retry_condition_fn is not None
    assert publish_scene.retry_condition_fn(publish_scene, None, state) is again


class LosesTasks(ThreadPoolTaskRunner[Any]):
    """Whose every task ends with ``error`` before our code is called."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def submit(self, *_: Any, **__: Any) -> PrefectConcurrentFuture[Any]:
        lost: Future[Any] = Future()
        lost.set_exception(self._error)
        return PrefectConcurrentFuture(uuid4(), lost)


@pytest.mark.parametrize(
    "error",
    [
        CrashedRun("the process died"),
        httpx.ConnectError("the server is away"),
        ZeroDivisionError("ours"),
    ],
)
def test_a_scene_is_not_put_in_quarantine_for_what_befell_prefect(
    candidates: list[Candidate], error: Exception
) -> None:
    runner = PrefectRunner(LosesTasks(error), Limits())
    outcomes = list(runner.run_scenes(pytest.fail, candidates))
    assert [outcome.retryable for outcome in outcomes] == [True] * len(candidates)


@pytest.mark.parametrize(
    "error", [EngineDenied("no right"), MemoryError("no memory"), ImportError("no package")]
)
def test_a_fault_of_the_set_up_ends_the_run_and_is_no_scenes(
    candidates: list[Candidate], error: Exception
) -> None:
    runner = PrefectRunner(LosesTasks(error), Limits())
    with pytest.raises(CloudmaskError) as fault:
        list(runner.run_scenes(pytest.fail, candidates))
    assert fault.value.ends_run
