"""The main job as Prefect flow runs: the only module that knows Prefect.

A flow adds names, retries, a state for each scene and an artifact; the work is done by the plain functions.
Prefect runs things at least once and holds no truth of its own: every effect is idempotent, no result is
persisted, and parameters are what the user asked for or a scene's id, never an href or a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.candidate import Candidate, build_failure
from flows.errors import CloudmaskError
from flows.ingest import Observer, ingest
from flows.report import Report, SceneOutcome
from flows.request import IngestRequest
from flows.runners import RETRIES, RETRY_DELAY_S, SceneWork
from flows.wiring import Wiring

observer_of_run: ContextVar[Observer | None] = ContextVar("observer_of_run", default=None)
"""Who is told how a flow run in this process goes on; an observer is no parameter."""


@flow(
    name="ingest",
    persist_result=False,
    log_prints=False,
)
def ingest_flow(request: IngestRequest) -> Report:
    """Publish the masks that ``request`` asks for; what went wrong with a scene is in the report."""
    wiring = Wiring(request.read_settings(), request.items, request.now)
    runner = PrefectRunner(wiring.settings.workers)
    report = ingest(wiring, request.read_query(), runner, observer_of_run.get(), force=request.force)
    create_table_artifact(key="cloudmask-run", table=_artifact_rows(report), description=report.summary)
    return report


class PrefectRunner:
    """Runs each scene as a task of the current flow run, ``workers`` at a time."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        """The outcomes in the order in which tasks end."""
        by_id = {candidate.scene.id: candidate for candidate in candidates}

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
        def publish_scene(scene_id: str) -> SceneOutcome:
            return work(by_id[scene_id])

        with ThreadPoolTaskRunner[SceneOutcome](max_workers=self._workers) as tasks:
            futures: dict[PrefectFuture[SceneOutcome], str] = {
                tasks.submit(publish_scene, {"scene_id": scene_id}): scene_id for scene_id in by_id
            }
            for future in as_completed(list(futures)):
                try:
                    yield future.result()
                except Exception as error:
                    yield build_failure(futures[future], error)


def _is_retryable(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except CloudmaskError as error:
        return error.retryable
    except Exception:
        return False
    return False


def _artifact_rows(report: Report) -> list[dict[str, Any]]:
    done = [(scene_id, "published", "") for scene_id in report.published]
    done += [(scene_id, "skipped", "") for scene_id in report.skipped]
    done += [
        (outcome.id, str(outcome.state), outcome.reason) for outcome in (*report.waiting, *report.failed)
    ]
    return [dict(zip(("scene", "state", "reason"), row, strict=True)) for row in done]
