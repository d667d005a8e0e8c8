"""Run a job in this process, without Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.report import Observer, Report
from pc_cloudmask.runs.request import IngestRequest, WatchRequest
from pc_cloudmask.runs.runners import Runner, ThreadRunner, count_threads
from pc_cloudmask.runs.watch import watch
from pc_cloudmask.settings import Settings


def run_directly(
    context: RunContext, request: IngestRequest | WatchRequest, observer: Observer | None = None
) -> Report:
    """Run the job that ``request`` asks for and return its report."""
    with open_runner(context.settings) as runner:
        if isinstance(request, WatchRequest):
            return watch(context, request, runner, observer)
        return ingest(context, request, runner, observer)


@contextmanager
def open_runner(settings: Settings) -> Iterator[Runner]:
    """Open the runner selected by ``settings``.

    Raises:
        SettingsError: its packages are not installed, or its cluster cannot be reached.
    """
    if settings.runner == "threads":
        yield ThreadRunner(count_threads(settings))
        return
    from pc_cloudmask.runs.dask import open_dask_runner  # noqa: PLC0415 - an optional, heavy dependency

    with open_dask_runner(settings.workers) as runner:
        yield runner
