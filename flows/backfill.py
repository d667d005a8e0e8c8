"""Publish years of an area as many flow runs, each of a few hundred scenes."""

from __future__ import annotations

from hashlib import sha256
from typing import cast

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from pc_cloudmask.flows.ingest import ingest_flow
from pc_cloudmask.flows.progress import leave_shards, name_by
from pc_cloudmask.flows.tasks import open_context
from pc_cloudmask.runs.plan import plan_shards
from pc_cloudmask.runs.request import BackfillRequest, IngestRequest


@flow(name="backfill", flow_run_name=name_by(BackfillRequest), persist_result=False, log_prints=False)
def backfill_flow(request: BackfillRequest) -> list[str]:
    """Start a flow run for each shard of the request; return their ids.

    Each shard is a run of ``request.deployment``, or of this process if that is None. When the same request is started
    again after a kill, only the missing runs are started.

    Args:
        request: Which areas and years.
    """
    context, _ = open_context(request)
    begun: list[tuple[IngestRequest, str]] = []
    for shard in plan_shards(context.source, request, context.settings):
        begun.append((shard, _begin_shard(shard, request)))
        get_run_logger().info("%d shards begun, the last: %s", len(begun), shard.title)
    leave_shards(begun)
    return [run for _, run in begun]


def _begin_shard(shard: IngestRequest, request: BackfillRequest) -> str:
    """Start the shard's flow run and return its id; the id of a run in this process is empty."""
    if request.deployment is None:
        ingest_flow(shard)
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
    return str(cast(FlowRun, run).id)  # not a coroutine when called from a synchronous flow
