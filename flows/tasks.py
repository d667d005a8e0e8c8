"""Scenes as tasks, within the global concurrency limits of Earth Engine and the source."""

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
from pc_cloudmask.flows.assets import MAKER, RunAssets, note_outcome
from pc_cloudmask.flows.progress import RunObserver
from pc_cloudmask.runs.candidate import Candidate, build_failure, find_fault
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.logs import run_id
from pc_cloudmask.runs.report import SceneOutcome
from pc_cloudmask.runs.request import RunRequest
from pc_cloudmask.runs.runners import RETRIES, RETRY_DELAY_S, SceneWork, count_threads, shared_limit
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
    """The limits that were set up; one that was not holds nobody back."""

    slots: Mapping[str, int] = field(default_factory=dict)

    def hold(self, name: str, wanted: int = 1) -> AbstractContextManager[None]:
        """Wait for ``wanted`` slots of the limit, or for all that it has, and hold them while inside."""
        if name not in self.slots or not wanted:
            return nullcontext()
        return concurrency(name, occupy=max(1, min(wanted, self.slots[name])), strict=True)


def find_limits() -> Limits:
    """Return the limits that the server has; asked once a run, for a missing one is silently ignored later."""
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
    """Holds a slot while items are fetched, and none while they are worked on."""

    def __init__(self, source: SceneSource, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self.local_root = source.local_root
        self.asset_hosts = source.asset_hosts
        self.allow_loopback = source.allow_loopback

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items, as the source gives them."""
        items = self._source.find_items(query)
        while True:
            with self._limits.hold(SOURCE_LIMIT):
                page = list(islice(items, PAGE_ITEMS))
            if not page:
                return
            yield from page


def run_scene(work: SceneWork, candidate: Candidate, limits: Limits) -> SceneOutcome:
    """Return the outcome of the scene; while it downloads, its requests have their slots."""
    shared_limit.set(partial(limits.hold, EARTH_ENGINE_LIMIT))
    return work(candidate)


def _is_retryable(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Return True if the error of a failed state may pass; one that is not ours is never tried again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, CloudmaskError) and error.retryable


@materialize(
    "cloudmask://item",  # each task run is told its own
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

    ``job`` is a partial: Prefect and Dask look into dataclasses for futures, in vain and at length.
    """
    outcome = job()
    note_outcome(outcome)
    return outcome


class PrefectRunner:
    """Runs each scene as a task of the current flow run, which makes one of ``assets``, where they are given."""

    def __init__(self, tasks: TaskRunner[Any], limits: Limits, assets: RunAssets | None = None) -> None:
        self._tasks = tasks
        self._limits = limits
        self._assets = assets

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """Yield the outcomes in the order in which tasks end; what ends the run is raised once all have.

        A fault of the set-up ends those that are not begun yet in no time: each meets it as its first.
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
        """Return the task that publishes ``candidate``, told which asset it makes of which."""
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
    """Open the runner that ``settings`` choose."""
    with _share_server(settings), _build_task_runner(settings) as tasks:
        yield PrefectRunner(tasks, limits, assets)


@contextmanager
def _share_server(settings: Settings) -> Iterator[None]:
    """Lead Dask's processes to the server of this one; where none is configured, each would start one for itself."""
    if settings.runner == "threads":
        yield
        return
    with get_client(sync_client=True) as client:
        url = str(client.api_url).rstrip("/")
    with temporary_settings({PREFECT_API_URL: url}):
        yield


def _build_task_runner(settings: Settings) -> TaskRunner[Any]:
    if settings.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=count_threads(settings))
    from pc_cloudmask.runs.dask import CLUSTER_OPTIONS, find_scheduler  # noqa: PLC0415 - optional and heavy

    address = find_scheduler()
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - as above
    except ImportError as error:
        raise SettingsError(f"CLOUDMASK_RUNNER=dask needs Dask: {tell_extra('dask')}") from error
    if address is not None:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": settings.workers, **CLUSTER_OPTIONS})


@contextmanager
def open_run(request: RunRequest) -> Iterator[tuple[RunContext, PrefectRunner, RunObserver]]:
    """Open what a flow run needs; its log is told which flow run this is."""
    run_id.set(str(flow_run.id or ""))
    context = RunContext.of(request)
    limits = find_limits()
    context.source = LimitedSource(context.source, limits)
    observer = RunObserver()
    with open_prefect_runner(context.settings, limits, RunAssets.of(context)) as runner:
        try:
            yield context, runner, observer
        finally:
            observer.update()
