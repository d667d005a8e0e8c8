"""Compare what the watched areas have in the source, our catalog and elsewhere, as a Prefect flow run."""

from __future__ import annotations

from prefect import flow

from pc_cloudmask.flows.progress import leave_gaps, name_by
from pc_cloudmask.flows.tasks import open_context
from pc_cloudmask.runs.gap_search import search_gaps
from pc_cloudmask.runs.gaps import GapReport
from pc_cloudmask.runs.request import GapsRequest


@flow(name="gaps", flow_run_name=name_by(GapsRequest), persist_result=False, log_prints=False)
def gaps_flow(request: GapsRequest = GapsRequest()) -> GapReport:  # noqa: B008 - frozen
    """Report the scenes that a catalogue lacks, and what could not be reached.

    Args:
        request: Which areas and period; by default the last 60 days of all areas in the worker's settings.
    """
    context, _ = open_context(request, read_only=not request.parquet)
    report = search_gaps(context, request)
    leave_gaps(report)
    return report
