"""The jobs that commands run, as Prefect flow runs or directly in this process."""

from __future__ import annotations

import logging
import os
import secrets
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, complain, options
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.scene.query import parse_ids
from pc_cloudmask.scene.scene import PRODUCT_FORM, drop_baseline
from pc_cloudmask.text import decode_text

if TYPE_CHECKING:
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.report import Report
    from pc_cloudmask.runs.request import IngestRequest, WatchRequest
    from pc_cloudmask.settings import Settings

logger = logging.getLogger(__name__)


def run_job(request: IngestRequest | WatchRequest, context: RunContext | None = None) -> Report:
    """Run the job that ``request`` asks for, with progress on a terminal, and return its report.

    Without a ``context`` the request's own is opened. Wrong settings end the command, not a flow run.
    """
    from pc_cloudmask.runs.context import RunContext

    context = context or RunContext.of(request)
    settings = context.settings
    _ = settings.rungs  # reports missing weights before anything heavy is imported
    from pc_cloudmask.cli.output import show_progress
    from pc_cloudmask.runs.request import WatchRequest

    _begin_log(settings)
    with show_progress() as observer:
        if prefect_wanted(options.prefect):
            _check_parameters(request, settings)
            _reach_api()
            quieten_prefect()
            from pc_cloudmask.flows import run_flow

            report = run_flow(request, observer)
        else:
            from pc_cloudmask.runs.direct import run_directly

            report = run_directly(context, request, observer)
    return _export(settings, report, "watch" if isinstance(request, WatchRequest) else "ingest")


def name_missing(request: IngestRequest, found: frozenset[str]) -> None:
    """Name on stderr the requested ids that do not match; with a limit this is unknown."""
    known = {drop_baseline(item_id) for item_id in found}
    missing = sorted({text for text in request.ids if drop_baseline(parse_ids(text)[0]) not in known})
    if request.limit is None and missing:
        complain(f"no scene matches: {', '.join(missing)}")
        if any(PRODUCT_FORM.fullmatch(parse_ids(text)[0]) for text in missing):
            complain(
                "the same scene may be there as another product, whose id ends with another time: "
                "--tile and --datetime find it"
            )


def finish(report: Report, **extra: Any) -> None:
    """Print the report; exit with status 1 if scenes failed or a source was unreachable."""
    from pc_cloudmask.cli.output import print_json, print_report

    if options.json:
        print_json({**report.as_json(), **extra})
    else:
        print_report(report)
    if not report.is_whole:
        raise typer.Exit(EXIT_FAILED)


def _begin_log(settings: Settings) -> None:
    """Begin the log of one run, after checking that its metrics can be written."""
    from pc_cloudmask.runs.logs import configure_logs, run_id
    from pc_cloudmask.settings import read_secrets

    if settings.metrics is not None:
        from pc_cloudmask.runs.report import check_metrics

        check_metrics(settings.metrics)
    run_id.set(uuid4().hex[:12])
    configure_logs(options.log_level, read_secrets, settings.log_format)


def _check_parameters(request: IngestRequest | WatchRequest, settings: Settings) -> None:
    """Raise for a request that no flow run should begin with, or that contains a secret, which Prefect would show."""
    from pc_cloudmask.runs.request import WatchRequest
    from pc_cloudmask.text import unsigned_href

    request.read_areas(settings) if isinstance(request, WatchRequest) else request.read_query()
    items = request.items or ""
    if "://" in items and (shown := unsigned_href(items)) != items:
        raise SettingsError(
            f"--items {shown}: has a query or a user, which Prefect would store: give --no-prefect, "
            "or a URL without"
        )


def _export(settings: Settings, report: Report, command: str) -> Report:
    """Write the outcome of the run to the log and, if there is one, to the file of metrics.

    If that file cannot be written, it is a problem in the report: what the run did must still be reported.
    """
    logger.info("%s: %s", command, report.summary)
    if settings.metrics is not None:
        from pc_cloudmask.runs.report import write_metrics
        from pc_cloudmask.settings import read_clock

        try:
            write_metrics(settings.metrics, command, report, read_clock())
        except SettingsError as error:
            return replace(report, problems=(*report.problems, str(error)))
    return report


#: For the server that a flow run starts for itself; a configured API has its own settings.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The report names every failed scene; Prefect would add a traceback for each.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # The default of 20 s is hit on slow machines.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Outcomes pass through memory; if one is ever stored, it is text, never a pickle.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}


def prefect_wanted(choice: bool | None) -> bool:
    """Return ``choice`` of the command line; if it is None, True if a Prefect API is configured."""
    return _api_configured() if choice is None else choice


def quieten_prefect() -> None:
    """Set what a flow run without a configured API needs: quiet, offline, with a server only for this process.

    This must run before Prefect is imported, which reads the environment once.
    """
    if not _api_configured():
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        # Otherwise the server listens to every web page that is open on this machine.
        password = os.environ.setdefault("PREFECT_API_AUTH_STRING", secrets.token_hex())
        os.environ.setdefault("PREFECT_SERVER_API_AUTH_STRING", password)


def _api_configured() -> bool:
    return bool(_find_api())


def _find_api() -> str | None:
    """Return the URL of the Prefect API that the environment or the active profile names."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    try:
        home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
        profiles = tomllib.loads(decode_text((home / "profiles.toml").read_bytes()))
        active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
        return str(profiles["profiles"][active].get("PREFECT_API_URL") or "") or None
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError):  # or no home folder
        return None


def _reach_api() -> None:
    """Check that the Prefect API answers: its own client keeps asking for minutes if nothing does.

    Raises:
        PrefectUnavailable: it does not.
    """
    from pc_cloudmask.contact import Service
    from pc_cloudmask.errors import PrefectUnavailable, Unreachable
    from pc_cloudmask.web import knock

    url = _find_api()
    if url is None or os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY"):
        return
    service = Service("Prefect", "PREFECT_API_URL", "PREFECT_API_SSL_CERT_FILE")
    try:
        knock(url, service, os.environ.get(service.bundle))
    except Unreachable as error:
        raise PrefectUnavailable(f"{error}; or give --no-prefect") from error
