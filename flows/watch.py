"""Reconcile watched areas with what is published, as a Prefect flow run."""

from __future__ import annotations

from prefect import flow

from pc_cloudmask.flows.progress import leave_report, name_by
from pc_cloudmask.flows.tasks import open_run
from pc_cloudmask.runs.report import Report
from pc_cloudmask.runs.request import WatchRequest
from pc_cloudmask.runs.watch import watch


@flow(name="watch", flow_run_name=name_by(WatchRequest), persist_result=False, log_prints=False)
def watch_flow(request: WatchRequest = WatchRequest()) -> Report:  # noqa: B008 - frozen
    """Reconcile the watched areas with what is published, once.

    Args:
        request: Which areas, and how far back; by default all areas in the worker's settings.
    """
    with open_run(request) as (context, runner, observer):
        report = watch(context, request, runner, observer)
        leave_report(context, report, observer)
    return report
