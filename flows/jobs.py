"""Requests carried out in this process."""

from __future__ import annotations

from flows.ingest import ingest
from flows.ingestion import Observer
from flows.report import Report
from flows.request import IngestRequest, WatchRequest
from flows.runners import open_runner
from flows.watch import WatchOptions, watch
from flows.wiring import Wiring


def run_directly(request: IngestRequest | WatchRequest, observer: Observer | None = None) -> Report:
    """The report of the job that ``request`` is."""
    wiring = Wiring.of(request)
    with open_runner(wiring.settings) as runner:
        if isinstance(request, WatchRequest):
            options = WatchOptions(request.rings, request.limit, request.seconds)
            return watch(wiring, request.read_areas(), runner, observer, options)
        return ingest(wiring, request.read_query(), runner, observer, force=request.force)
