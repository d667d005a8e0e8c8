"""Run scenes as tasks, within the global concurrency limits of Earth Engine and the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.flows.progress import MAKER, RunAssets, RunObserver, note_outcome
from pc_cloudmask.runs.candidate import Candidate, build_failure, find_fault
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.report import SceneOutcome, run_id
from pc_cloudmask.runs.request import RunRequest
from pc_cloudmask.runs.runners import (
    CLUSTER_OPTIONS,
    RETRIES,
    RETRY_DELAY_S,
    SceneWork,
    count_threads,
    find_scheduler,
    shared_limit,
)
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.fields import Item, SceneSource
from pc_cloudmask.version import tell_extra

#: A slot is one request in flight, of the 40 that a project may have.
EARTH_ENGINE_LIMIT = "cloudmask-earth-engine"
#: A slot is one page of items being fetched.
SOURCE_LIMIT = "cloudmask-source"
PAGE_ITEMS = 250


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that exist on the server; a missing one holds nothing back."""

    slots: Mapping[str, int] = field(default_factory=dict)

    def hold(self, name: str, wanted: int = 1) -> AbstractContextManager[None]:
        """Wait for ``wanted`` slots of the limit, or for all that it has, and hold them while inside."""
        if name not in self.slots or not wanted:
            return nullcontext()
        return concurrency(name, occupy=max(1, min(wanted, self.slots[name])), strict=True)


def find_limits() -> Limits:
    """Return the limits that exist on the server; asked once a run, since missing ones are silently ignored later."""
    found = {}
    with get_client(sync_client=True) as client:
        for name in (EARTH_ENGINE_LIMIT, SOURCE_LIMIT):
            try:
                limit = client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                continue
            if limit.active:
                found[name] = limit.limit
    return Limits(found)


class LimitedSource:
    """Holds a slot while items are fetched, but not while they are processed."""

    def __init__(self, source: SceneSource, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self.local_root = source.local_root
        self.asset_hosts = source.asset_hosts
        self.allow_loopback = source.allow_loopback

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items of the source."""
        items = self._source.find_items(query)
        while True:
            with self._limits.hold(SOURCE_LIMIT):
                page = list(islice(items, PAGE_ITEMS))
            if not page:
                return
            yield from page


def run_scene(work: SceneWork, candidate: Candidate, limits: Limits) -> SceneOutcome:
    """Return the outcome of the scene; its requests hold their slots while it downloads."""
    shared_limit.set(partial(limits.hold, EARTH_ENGINE_LIMIT))
    return work(candidate)


def _is_retryable(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Return True if the error of a failed state is retryable; errors other than ours are never retried."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, CloudmaskError) and error.retryable


@materialize(
    "cloudmask://item",  # replaced in each task run
    by=MAKER,
    name="publish-cloudmask",
    task_run_name="{scene_id}",
    retries=RETRIES,
    retry_delay_seconds=[RETRY_DELAY_S * 2**attempt for attempt in range(RETRIES)],
    retry_jitter_factor=0.3,
    retry_condition_fn=_is_retryable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_scene(scene_id: str, job: Callable[[], SceneOutcome]) -> SceneOutcome:  # noqa: ARG001 - names the task's run
    """Return the outcome of one scene; if it was published, its item is an asset made by this task run.

    ``job`` is a partial, because Prefect and Dask search dataclasses for futures, in vain and at length.
    """
    outcome = job()
    note_outcome(outcome)
    return outcome


class PrefectRunner:
    """Runs each scene as a task of the current flow run, which makes an asset if ``assets`` are given."""

    def __init__(self, tasks: TaskRunner[Any], limits: Limits, assets: RunAssets | None = None) -> None:
        self._tasks = tasks
        self._limits = limits
        self._assets = assets

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """Yield the outcomes in the order in which tasks end; an error that ends the run is raised after all of them.

        A fault of the setup quickly ends the tasks that have not begun: it is the first thing each of them meets.
        """
        fault: CloudmaskError | None = None
        futures: dict[PrefectFuture[SceneOutcome], Candidate] = {}
        for candidate in candidates:
            job = partial(run_scene, work, candidate, self._limits)
            parameters = {"scene_id": candidate.scene.id, "job": job}
            futures[self._tasks.submit(self._build_task(candidate), parameters)] = candidate
        for future in as_completed(list(futures)):
            candidate = futures[future]
            try:
                yield future.result()
            except Exception as error:
                if found := find_fault(error):
                    fault = fault or found
                    continue
                yield build_failure(candidate.scene.id, error, candidate.fingerprint)
        if fault:
            raise fault

    def _build_task(self, candidate: Candidate) -> Task[..., SceneOutcome]:
        """Return the task that publishes ``candidate``, with the asset it makes and its source."""
        if self._assets is None:
            return publish_scene
        item = self._assets.build_item(candidate.scene.id, candidate.keys.item)
        return publish_scene.with_options(
            assets=[item], asset_deps=[self._assets.build_source(candidate.item)]
        )


@contextmanager
def open_prefect_runner(
    settings: Settings, limits: Limits, assets: RunAssets | None = None
) -> Iterator[PrefectRunner]:
    """Open the runner selected by ``settings``."""
    if settings.runner == "threads":
        threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=count_threads(settings))
        with threads as tasks:
            yield PrefectRunner(tasks, limits, assets)
        return
    # Dask's processes use this process's Prefect server; otherwise each would start its own.
    with get_client(sync_client=True) as client:
        url = str(client.api_url).rstrip("/")
    with temporary_settings({PREFECT_API_URL: url}), _build_dask_runner(settings) as tasks:
        yield PrefectRunner(tasks, limits, assets)


def _build_dask_runner(settings: Settings) -> TaskRunner[Any]:
    address = find_scheduler()
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - optional and heavy
    except ImportError as error:
        raise SettingsError(f"CLOUDMASK_RUNNER=dask needs Dask: {tell_extra('dask')}") from error
    if address is not None:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": settings.workers, **CLUSTER_OPTIONS})


def open_context(request: RunRequest, *, read_only: bool = False) -> tuple[RunContext, Limits]:
    """Open what a flow run works with, within the limits; its log records say which flow run they belong to."""
    run_id.set(str(flow_run.id or ""))
    context, limits = RunContext.of(request, read_only=read_only), find_limits()
    context.source = LimitedSource(context.source, limits)
    return context, limits


@contextmanager
def open_run(request: RunRequest) -> Iterator[tuple[RunContext, PrefectRunner, RunObserver]]:
    """Open what a flow run that publishes needs."""
    context, limits = open_context(request)
    observer = RunObserver()
    with open_prefect_runner(context.settings, limits, RunAssets.of(context)) as runner:
        try:
            yield context, runner, observer
        finally:
            observer.update()
