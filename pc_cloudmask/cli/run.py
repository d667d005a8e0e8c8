"""The jobs that commands run, as Prefect flow runs or directly in this process."""

from __future__ import annotations

import logging
import os
import secrets
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, complain, options

if TYPE_CHECKING:
    from pc_cloudmask.runs.report import Report
    from pc_cloudmask.runs.request import IngestRequest, RunRequest, WatchRequest
    from pc_cloudmask.scene.query import SceneQuery


logger = logging.getLogger(__name__)


def run_ingest(request: IngestRequest) -> Report:
    """``ingest``, with progress on a terminal."""
    check_reachable(request, request.read_query())
    return _run("ingest", request)


def run_watch(request: WatchRequest) -> Report:
    """``watch`` once, with progress on a terminal."""
    from pc_cloudmask.scene.query import SceneQuery

    request.read_areas()
    check_reachable(request, SceneQuery())
    return _run("watch", request)


def check_reachable(request: RunRequest, query: SceneQuery) -> None:
    """See that no path of this machine would be published where others read.

    Raises:
        SettingsError: an asset of an item that ``query`` finds is a local file, and the store a bucket or
            one with a public URL; files within the store itself are published with it.
    """
    from pc_cloudmask.errors import SettingsError
    from pc_cloudmask.runs.context import RunContext

    context = RunContext.of(request)
    store, public_url = context.settings.store, context.settings.public_url
    in_bucket = store.startswith("s3:")
    if request.items is None or not (in_bucket or public_url) or context.source.local_root is None:
        return
    root = None if in_bucket else Path(store.removeprefix("file://").removeprefix("file:")).resolve()
    for item in context.source.find_items(query):
        for name, path in _list_local_assets(item):
            if root is None or not path.is_relative_to(root):
                raise SettingsError(
                    f"--items {request.items}: asset {name} of {item.get('id')!r:.100} is a local file, "
                    f"which readers of {public_url or store} cannot reach: upload it and give its https or "
                    "s3 href, or publish into a directory without CLOUDMASK_PUBLIC_URL"
                )


def _list_local_assets(item: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Names and paths of the item's assets that are files of this machine."""
    assets = item.get("assets")
    for name, asset in assets.items() if isinstance(assets, dict) else ():
        href = asset.get("href") if isinstance(asset, dict) else None
        if isinstance(href, str) and href.startswith("/"):
            yield name, Path(href)


def name_missing(request: IngestRequest, found: frozenset[str]) -> None:
    """Say on stderr which of the ids that were asked for do not match; a limit leaves that open."""
    if request.limit is None and (missing := sorted(set(request.ids) - found)):
        complain(f"no scene matches: {', '.join(missing)}")


def finish(report: Report, **extra: Any) -> None:
    """Print the report; exit status 1 where scenes failed or a source was out of reach."""
    from pc_cloudmask.cli.output import print_json, print_report

    if options.json:
        print_json({**report.as_json(), **extra})
    else:
        print_report(report)
    if not report.is_whole:
        raise typer.Exit(EXIT_FAILED)


def _run(command: str, request: IngestRequest | WatchRequest) -> Report:
    from pc_cloudmask.cli.output import show_progress

    with show_progress() as observer:
        if _prepare(request):
            from pc_cloudmask.flows import run_flow

            report = run_flow(request, observer)
        else:
            from pc_cloudmask.runs.watch import run_directly

            report = run_directly(request, observer)
    return _export(command, request, report)


def _prepare(request: RunRequest) -> bool:
    """Whether the job is to be a flow run. Wrong settings end here, not as a failed flow run."""
    from pc_cloudmask.runs.logs import configure_logs, run_id
    from pc_cloudmask.settings import read_secrets

    settings = request.read_settings()
    if settings.metrics is not None:
        from pc_cloudmask.runs.metrics import check_metrics

        check_metrics(settings.metrics)
    run_id.set(uuid4().hex[:12])
    configure_logs(options.log_level, read_secrets, settings.log_format)
    wanted = prefect_wanted(options.prefect)
    if wanted:
        _check_parameters(request)
        quieten_prefect()
    return wanted


def _check_parameters(request: RunRequest) -> None:
    """Nothing, where the request holds no secret: Prefect stores and shows what a flow run was asked for."""
    from pc_cloudmask.errors import SettingsError
    from pc_cloudmask.text import unsigned_href

    items = request.items or ""
    if "://" in items and (shown := unsigned_href(items)) != items:
        raise SettingsError(
            f"--items {shown}: has a query or a user, which Prefect would store: give --no-prefect, "
            "or a URL without"
        )


def _export(command: str, request: RunRequest, report: Report) -> Report:
    """Tell the log and, where there is one, the file of figures how the run went.

    That the file cannot be written is a problem of the report: what the run did must be told all the same.
    """
    logger.info("%s: %s", command, report.summary)
    path = request.read_settings().metrics
    if path is not None:
        from pc_cloudmask.errors import SettingsError
        from pc_cloudmask.runs.metrics import write_metrics
        from pc_cloudmask.settings import read_clock

        try:
            write_metrics(path, command, report, read_clock())
        except SettingsError as error:
            return replace(report, problems=(*report.problems, str(error)))
    return report


#: For the server that a flow run starts for itself; a configured API brings settings of its own.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The report names every failed scene; Prefect would add a traceback for each.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # The default of 20 s is hit on slow machines.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Outcomes pass through memory; should one ever be stored, it is text, never a pickle.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}


def prefect_wanted(choice: bool | None) -> bool:
    """``choice`` of the command line, else whether a Prefect API is configured."""
    return _api_configured() if choice is None else choice


def quieten_prefect() -> None:
    """Set what a flow run without a configured API needs: quiet, offline, its server this process's alone.

    Must run before Prefect is imported: it reads the environment once.
    """
    if not _api_configured():
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        # The server listens for every web page that is open on this machine.
        password = os.environ.setdefault("PREFECT_API_AUTH_STRING", secrets.token_hex())
        os.environ.setdefault("PREFECT_SERVER_API_AUTH_STRING", password)


def _api_configured() -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    try:
        home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
        profiles = tomllib.loads((home / "profiles.toml").read_text("utf-8"))
        active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
        return bool(profiles["profiles"][active].get("PREFECT_API_URL"))
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError):  # or there is no home
        return False
