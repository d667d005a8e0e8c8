"""Publish the masks that a request asks for, as a Prefect flow run."""

from __future__ import annotations

from prefect import flow

from pc_cloudmask.flows.progress import leave_report, name_by
from pc_cloudmask.flows.tasks import open_run
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import IngestRequest


@flow(name="ingest", flow_run_name=name_by(IngestRequest), persist_result=False, log_prints=False)
def ingest_flow(request: IngestRequest) -> Report:
    """Publish the masks that the request asks for; failures of single scenes are in the report.

    Args:
        request: Which scenes, and how; empty fields take the values of the worker's settings.
    """
    with open_run(request) as (context, runner, observer):
        report = ingest(context, request, runner, observer)
        leave_report(context, report, observer)
    return report
