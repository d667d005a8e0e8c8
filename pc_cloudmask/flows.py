"""The Prefect flows of the top-level folder ``flows/``, under a name that nobody else uses.

Most Prefect projects call their own folder ``flows``, with or without an ``__init__.py``, so Python might look for our
``flows.tasks`` there. ``__path__`` makes ``pc_cloudmask.flows`` a package whose modules are the files of our folder,
which is next to ``pc_cloudmask`` in a checkout and in an installed wheel. Deployments name flows by module:
``pc_cloudmask.flows.ingest.ingest_flow``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pc_cloudmask.errors import PrefectUnavailable

if TYPE_CHECKING:
    from pc_cloudmask.runs.report import Observer, Report
    from pc_cloudmask.runs.request import IngestRequest, WatchRequest

FLOWS_FOLDER = Path(__file__).resolve().parents[1] / "flows"
__path__ = [str(FLOWS_FOLDER)]


def run_flow(request: IngestRequest | WatchRequest, observer: Observer) -> Report:
    """Run the flow that ``request`` asks for, report its progress to ``observer``, and return its report.

    Raises:
        PrefectUnavailable: the configured API does not answer.
    """
    import httpx  # noqa: PLC0415 - with Prefect, only where a flow run is wanted
    from packaging.version import InvalidVersion  # noqa: PLC0415

    from pc_cloudmask.flows.ingest import ingest_flow  # noqa: PLC0415
    from pc_cloudmask.flows.progress import observer_of_run  # noqa: PLC0415
    from pc_cloudmask.flows.watch import watch_flow  # noqa: PLC0415
    from pc_cloudmask.runs.request import WatchRequest  # noqa: PLC0415

    observer_of_run.set(observer)
    try:
        report: Report = watch_flow(request) if isinstance(request, WatchRequest) else ingest_flow(request)
    except (httpx.HTTPError, InvalidVersion, RuntimeError) as error:
        # Prefect first asks for the server's version, and raises RuntimeError if it cannot read the answer, such as a
        # web page. Here, only Prefect uses httpx and reads versions.
        if not any(isinstance(each, httpx.HTTPError | ValueError) for each in (error, error.__cause__)):
            raise
        raise PrefectUnavailable(
            f"Prefect: {error}: start its server, look at PREFECT_API_URL and PREFECT_API_AUTH_STRING, "
            "or give --no-prefect"
        ) from error
    return report
