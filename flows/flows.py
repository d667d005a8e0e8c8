"""The flows: ingest, watch, backfill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import cast

import httpx
from packaging.version import InvalidVersion
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from flows.progress import RunObserver, emit_withdrawn, leave_report, leave_shards, observe_run
from flows.runner import LimitedSource, PrefectRunner, find_limits, open_prefect_runner
from pc_cloudmask.errors import PrefectUnavailable
from pc_cloudmask.runs.backfill import plan_shards
from pc_cloudmask.runs.context import Wiring
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.logs import run_id
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import BackfillRequest, IngestRequest, RunRequest, WatchRequest
from pc_cloudmask.runs.watch import WatchOptions, watch


@flow(name="ingest", persist_result=False, log_prints=False)
def ingest_flow(request: IngestRequest) -> Report:
    """Publish the masks that ``request`` asks for; what went wrong with a scene is in the report."""
    with _open_run(request) as (wiring, runner, observer):
        report = ingest(wiring, request.read_query(), runner, observer, force=request.force)
        leave_report(wiring, report, observer.newest)
    return report


@flow(name="watch", persist_result=False, log_prints=False)
def watch_flow(request: WatchRequest = WatchRequest()) -> Report:  # noqa: B008 - frozen
    """Reconcile watched areas with what is published, once."""
    options = WatchOptions(request.rings, request.limit, request.seconds)
    with _open_run(request) as (wiring, runner, observer):
        report = watch(wiring, request.read_areas(), runner, observer, options)
        emit_withdrawn(report.withdrawn)
        leave_report(wiring, report, observer.newest)
    return report


def run_flow(request: IngestRequest | WatchRequest) -> Report:
    """The report of the flow run that ``request`` asks for.

    Raises:
        PrefectUnavailable: the API that is configured gives no answer.
    """
    try:
        return watch_flow(request) if isinstance(request, WatchRequest) else ingest_flow(request)
    except (httpx.HTTPError, InvalidVersion, RuntimeError) as error:
        # Prefect first asks for the server's version. It makes a RuntimeError of what keeps it from reading
        # the answer, be it a web page; only it speaks through httpx and reads versions.
        if not any(isinstance(each, httpx.HTTPError | ValueError) for each in (error, error.__cause__)):
            raise
        raise PrefectUnavailable(
            f"Prefect: {error}: start its server, look at PREFECT_API_URL and PREFECT_API_AUTH_STRING, "
            "or give --no-prefect"
        ) from error


@flow(name="backfill", persist_result=False, log_prints=False)
def backfill_flow(request: BackfillRequest) -> list[str]:
    """Publish years of an area as many flow runs, each of a few hundred scenes; their ids.

    Each shard is a run of ``request.deployment``, or of this very process where that is None. Begun again
    with the same request, after a kill, it begins only the runs that lack.
    """
    wiring = Wiring.of(request)
    wiring.source = LimitedSource(wiring.source, find_limits())
    begun: list[tuple[IngestRequest, str]] = []
    for shard in plan_shards(wiring.source, request):
        begun.append((shard, _begin_shard(shard, request)))
        get_run_logger().info("%d shards begun, the last: %s", len(begun), shard.title)
    leave_shards(begun)
    return [run for _, run in begun]


def _begin_shard(shard: IngestRequest, request: BackfillRequest) -> str:
    """The id of the shard's flow run."""
    if request.deployment is None:
        ingest_flow.with_options(flow_run_name=shard.title)(shard)
        return ""
    parameters = {"request": shard.model_dump(mode="json", exclude_defaults=True)}
    digest = sha256(f"{shard.model_dump_json()}{request.deployment}{request.attempt}".encode()).hexdigest()
    run = run_deployment(
        request.deployment,
        parameters=parameters,
        flow_run_name=shard.title,
        idempotency_key=f"backfill-{digest}",
        timeout=0,
    )
    return str(cast(FlowRun, run).id)  # called from a synchronous flow, it gives no coroutine


@contextmanager
def _open_run(request: RunRequest) -> Iterator[tuple[Wiring, PrefectRunner, RunObserver]]:
    """What a run needs; its limits and its log are told which flow run this is."""
    run_id.set(str(flow_run.id or ""))
    wiring = Wiring.of(request)
    limits = find_limits()
    wiring.source = LimitedSource(wiring.source, limits)
    with observe_run() as observer, open_prefect_runner(wiring.settings, limits) as runner:
        yield wiring, runner, observer
