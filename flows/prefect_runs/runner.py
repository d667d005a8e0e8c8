"""Scenes as tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import PrefectException
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.candidate import Candidate, build_failure
from flows.errors import CloudmaskError, SettingsError
from flows.prefect_runs.limits import EARTH_ENGINE_LIMIT, Limits
from flows.report import SceneOutcome
from flows.runners import RETRIES, RETRY_DELAY_S, SceneWork
from flows.settings import Method, Runner, Settings

_PREFECTS_OWN = (PrefectException, httpx.HTTPError)


class SceneJob:
    """What a task does.

    A plain object: Prefect and Dask look into dataclasses for futures, in vain and at length.
    """

    def __init__(self, work: SceneWork, candidate: Candidate, limits: Limits) -> None:
        self._work = work
        self._candidate = candidate
        self._limits = limits

    def run(self) -> SceneOutcome:
        """The outcome of the scene, within the limits of Earth Engine."""
        with self._limits.hold(EARTH_ENGINE_LIMIT):
            return self._work(self._candidate)


def _is_retryable(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether the error of a failed state may pass; one that is none of ours is never tried again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, CloudmaskError) and error.retryable


@task(
    name="publish-cloudmask",
    task_run_name="{scene_id}",
    retries=RETRIES,
    retry_delay_seconds=[RETRY_DELAY_S * 2**attempt for attempt in range(RETRIES)],
    retry_jitter_factor=0.3,
    retry_condition_fn=_is_retryable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_scene(scene_id: str, job: SceneJob) -> SceneOutcome:  # noqa: ARG001 - names the task's run
    """The outcome of one scene."""
    return job.run()


class PrefectRunner:
    """Runs each scene as a task of the current flow run."""

    def __init__(self, tasks: TaskRunner[Any], limits: Limits) -> None:
        self._tasks = tasks
        self._limits = limits

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """The outcomes in the order in which tasks end."""
        futures: dict[PrefectFuture[SceneOutcome], Candidate] = {}
        for candidate in candidates:
            parameters = {
                "scene_id": candidate.scene.id,
                "job": SceneJob(work, candidate, self._limits),
            }
            futures[self._tasks.submit(publish_scene, parameters)] = candidate
        for future in as_completed(list(futures)):
            candidate = futures[future]
            try:
                yield future.result()
            except Exception as error:
                failure = build_failure(candidate.scene.id, error, candidate.fingerprint)
                # A task that crashed, a server that is away: no fault of the scene's.
                yield replace(failure, retryable=failure.retryable or isinstance(error, _PREFECTS_OWN))


@contextmanager
def open_prefect_runner(settings: Settings, limits: Limits) -> Iterator[PrefectRunner]:
    """The runner that ``settings`` choose; limits of Earth Engine do not hold back the embedded method."""
    if settings.method is Method.CSMASK:
        limits = Limits(limits.names - {EARTH_ENGINE_LIMIT})
    with _build_task_runner(settings) as tasks:
        yield PrefectRunner(tasks, limits)


def _build_task_runner(settings: Settings) -> TaskRunner[Any]:
    if settings.runner is Runner.THREADS:
        return ThreadPoolTaskRunner(max_workers=settings.workers)
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - an optional, heavy dependency
    except ImportError as error:
        raise SettingsError("CLOUDMASK_RUNNER=dask needs Dask: pip install 'pc-cloudmask[dask]'") from error
    from flows.dask_runner import CLUSTER_OPTIONS, find_scheduler  # noqa: PLC0415 - as above

    address = find_scheduler()
    if address is not None:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": settings.workers, **CLUSTER_OPTIONS})
