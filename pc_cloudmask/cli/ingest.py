"""Commands that publish: `demo`, `ingest`, `retry` and `watch`, which run in this process or as Prefect flow runs."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pc_cloudmask.cli import options as opt
from pc_cloudmask.cli.app import app, complain, exit_unless, options, print_json, say
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.report import configure_logs, run_id
from pc_cloudmask.text import decode_text, unsigned_href

if TYPE_CHECKING:
    from pc_cloudmask.runs.area_state import LookBack
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.report import Observer, Report
    from pc_cloudmask.runs.request import IngestRequest, WatchRequest
    from pc_cloudmask.settings import Settings

logger = logging.getLogger(__name__)
IdsOption = Annotated[list[str] | None, opt.values("ID,…", "Ids of items.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Publish at most this many scenes in a run.")]
ForceOption = Annotated[bool, opt.flag("--force", "Publish again what is published already.")]
ComputeOption = Annotated[
    str | None,
    typer.Option(
        help="Where Earth Engine's inputs become a mask: local (here) or server (there).",
        autocompletion=opt.complete_names(lambda _: ("local", "server")),
    ),
]
KeepInputsOption = Annotated[bool | None, opt.flag("--keep-inputs", "Publish the cloud probability too.")]
DryRunOption = Annotated[bool, opt.flag("--dry-run", "Say what would be done; write nothing.")]


@app.command()
def ingest(
    bbox: opt.Bbox = None,
    intersects: opt.Intersects = None,
    tile: opt.Tile = None,
    datetime: opt.Datetime = None,
    ids: IdsOption = None,
    items: opt.Items = None,
    limit: LimitOption = None,
    method: opt.Method = None,
    compute: ComputeOption = None,
    store: opt.Store = None,
    keep_inputs: KeepInputsOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
) -> None:
    """Publish the masks of the scenes that match."""
    from pc_cloudmask.runs.request import IngestRequest

    request = IngestRequest(
        bbox=bbox,
        intersects=intersects,
        tiles=tuple(tile or ()),
        datetime=datetime,
        ids=tuple(ids or ()),
        items=items,
        limit=limit,
        method=opt.join_names(method),
        compute=compute,
        store=store,
        keep_inputs=keep_inputs,
        force=force,
        config=options.config,
    )
    _print_plan(request) if dry_run else _publish(request)


def _print_plan(request: IngestRequest) -> None:
    from pc_cloudmask.cli.output import print_plan
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.plan import plan_ingest

    plan = plan_ingest(RunContext.of(request, read_only=True), request)
    _name_missing(request, plan.ids)
    print_json(plan.as_json()) if options.json else print_plan(plan)
    exit_unless(not plan.failed)


def _publish(request: IngestRequest, context: RunContext | None = None) -> None:
    """Publish what ``request`` asks for; report those of its ids that no scene has."""
    report = _run_job(request, context)
    _name_missing(request, report.ids)
    _finish(report)


@app.command()
def demo(
    out: Annotated[Path | None, opt.value("DIR", "Where the catalog goes; default ./out.")] = None,
) -> None:
    """Run the main job on the bundled sample archive and score it against its known truth."""
    from pc_cloudmask.cli.output import print_scores
    from pc_cloudmask.demo.demo import build_demo_request, score_demo

    request = build_demo_request(options.config, out)
    report = _run_job(request)
    scores = score_demo(request)
    catalog = f"{request.store}/catalog.json"
    if not options.json:
        print_scores(scores, str(request.store))
    _finish(report, scores=[score.as_json() for score in scores], catalog=catalog)


@app.command()
def retry(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]…",
            help="Ids, beginnings of them, or tile and day: 22KFV 2018-12-14; "
            "default: all that failed, wait or are provisional.",
            autocompletion=opt.complete_state,
        ),
    ] = None,
    items: opt.Items = None,
    store: opt.Store = None,
) -> None:
    """Retry failed, waiting and provisional scenes now, even if they are not due."""
    from pc_cloudmask.catalog.layout import choose_same, join_tiles_and_days, match_name
    from pc_cloudmask.catalog.states import list_states
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.report import Report
    from pc_cloudmask.runs.request import IngestRequest

    request = IngestRequest(items=items, store=store, config=options.config)
    context = RunContext.of(request)
    remembered = {state.item_id for state in list_states(context.store)}
    asked = {text: match_name(text, remembered, "ID") for text in join_tiles_and_days(ids or ())}
    found = {name for text, names in asked.items() if names for name in choose_same(names, text, "ID")}
    wanted = tuple(sorted(found if ids else remembered))
    if unknown := sorted(text for text, names in asked.items() if not names):
        complain(f"neither waiting nor failed: {', '.join(unknown)}")
    if wanted:
        _publish(request.model_copy(update={"ids": wanted}), context)
    elif options.json:
        _finish(Report())
    else:
        say("none of these waits or failed" if ids else "nothing waits or failed")


OnceOption = Annotated[bool, opt.flag("--once", "Run once, for cron and the like.")]
EveryOption = Annotated[
    str | None, opt.value("TIME", "Run every 30m, 1h, 1d …, until interrupted; default: 1h.")
]
SinceOption = Annotated[str | None, opt.value("DAY", "Watch scenes taken since 2018, 2018-12 or 2018-12-14.")]
LookBackOption = Annotated[
    list[str] | None,
    opt.values(
        "WINDOW,…",
        "How far to look back: hot, recent, full; default: as far as is due.",
        autocompletion=opt.complete_names(lambda _: ("hot", "recent", "full")),
    ),
]


@app.command()
def watch(
    once: OnceOption = False,
    every: EveryOption = None,
    area: opt.Area = None,
    tile: opt.Tile = None,
    bbox: opt.Bbox = None,
    intersects: opt.Intersects = None,
    since: SinceOption = None,
    look_back: LookBackOption = None,
    items: opt.Items = None,
    limit: LimitOption = None,
    store: opt.Store = None,
) -> None:
    """Keep the catalog up to date: publish what is new, late or changed, withdraw what is gone."""
    from pc_cloudmask.runs.request import WatchRequest

    period = opt.read_period(once, every)
    request = WatchRequest(
        areas=tuple(area or ()),
        tiles=tuple(tile or ()),
        bbox=bbox,
        intersects=intersects,
        since=since,
        look_back=_read_look_back(look_back),
        items=items,
        limit=limit,
        store=store,
        config=options.config,
        seconds=period.total_seconds() if period else None,
    )
    if period is None:
        _finish(_run_job(request))
    else:
        _watch_for_ever(request, period)


def _watch_for_ever(request: WatchRequest, period: timedelta) -> None:
    """Run once per ``period`` and print each report, with ``--json`` on one line; continue after a failed run."""
    from pc_cloudmask.cli.output import print_report
    from pc_cloudmask.contact import be_patient
    from pc_cloudmask.errors import CloudmaskError, SourceMistaken
    from pc_cloudmask.runs.report import Report

    be_patient()
    while True:
        started = time.monotonic()
        try:
            report = _run_job(request)
        except CloudmaskError as error:
            # A page in place of the API may announce when it will be back.
            if not (error.retryable or isinstance(error, SourceMistaken)):
                raise
            report = Report(problems=(str(error),))
        print_json(report.as_json(), indent=None) if options.json else print_report(report)
        time.sleep(max(0.0, period.total_seconds() - (time.monotonic() - started)))


def _read_look_back(names: list[str] | None) -> tuple[LookBack, ...] | None:
    from pc_cloudmask.runs.area_state import LookBack

    try:
        return tuple(LookBack(name) for name in names) if names else None
    except ValueError as error:
        raise SettingsError(f"--look-back {' '.join(names or ())!r:.40}: hot, recent or full") from error


def _run_job(request: IngestRequest | WatchRequest, context: RunContext | None = None) -> Report:
    """Run the job that ``request`` asks for, with progress on a terminal, and return its report.

    Without a ``context`` the request's own is opened. Wrong settings end the command, not a flow run.
    """
    from uuid import uuid4

    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.request import WatchRequest
    from pc_cloudmask.settings import read_secrets

    context = context or RunContext.of(request)
    settings = context.settings
    _ = settings.rungs  # reports missing weights before anything heavy is imported
    from pc_cloudmask.cli.output import show_progress
    from pc_cloudmask.runs.report import check_metrics

    if settings.metrics is not None:
        check_metrics(settings.metrics)
    run_id.set(uuid4().hex[:12])
    configure_logs(options.log_level, read_secrets, settings.log_format)
    with_prefect = _find_api() is not None if options.prefect is None else options.prefect
    with show_progress() as observer:
        if with_prefect:
            report = _run_flow(request, settings, observer)
        else:
            from pc_cloudmask.runs.watch import run_directly

            report = run_directly(context, request, observer)
    return _export(settings, report, "watch" if isinstance(request, WatchRequest) else "ingest")


def _name_missing(request: IngestRequest, found: frozenset[str]) -> None:
    """Name on stderr the requested ids that do not match; with a limit this is unknown."""
    from pc_cloudmask.scene.query import parse_ids
    from pc_cloudmask.scene.scene import PRODUCT_FORM, drop_baseline

    known = {drop_baseline(item_id) for item_id in found}
    missing = sorted({text for text in request.ids if drop_baseline(parse_ids(text)[0]) not in known})
    if request.limit is None and missing:
        complain(f"no scene matches: {', '.join(missing)}")
        if any(PRODUCT_FORM.fullmatch(parse_ids(text)[0]) for text in missing):
            complain(
                "the same scene may be there as another product, whose id ends with another time: "
                "--tile and --datetime find it"
            )


def _finish(report: Report, **extra: Any) -> None:
    """Print the report; exit with status 1 if scenes failed or a source was unreachable."""
    from pc_cloudmask.cli.output import print_report

    print_json({**report.as_json(), **extra}) if options.json else print_report(report)
    exit_unless(report.is_whole)


def _export(settings: Settings, report: Report, command: str) -> Report:
    """Write the outcome of the run to the log and, if there is one, to the file of metrics.

    If that file cannot be written, it is a problem in the report: what the run did must still be reported.
    """
    from pc_cloudmask.runs.report import write_metrics
    from pc_cloudmask.settings import read_clock

    logger.info("%s: %s", command, report.summary)
    if settings.metrics is not None:
        try:
            write_metrics(settings.metrics, command, report, read_clock())
        except SettingsError as error:
            return replace(report, problems=(*report.problems, str(error)))
    return report


def _run_flow(request: IngestRequest | WatchRequest, settings: Settings, observer: Observer) -> Report:
    """Run the job as a Prefect flow run, unless none should begin, or Prefect would show a secret."""
    from pc_cloudmask.runs.request import WatchRequest

    request.read_areas(settings) if isinstance(request, WatchRequest) else request.read_query()
    items = request.items or ""
    if "://" in items and (shown := unsigned_href(items)) != items:
        raise SettingsError(
            f"--items {shown}: has a query or a user, which Prefect would store: give --no-prefect, "
            "or a URL without"
        )
    _reach_api()
    quieten_prefect()
    from pc_cloudmask.flows import run_flow

    return run_flow(request, observer)


#: For the server that a flow run starts for itself; a configured API has its own settings.
_QUIET = {
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


def quieten_prefect() -> None:
    """Set what a flow run without a configured API needs: quiet, offline, with a server only for this process.

    This must run before Prefect is imported, which reads the environment once.
    """
    import secrets

    if _find_api() is None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        # Otherwise the server listens to every web page that is open on this machine.
        password = os.environ.setdefault("PREFECT_API_AUTH_STRING", secrets.token_hex())
        os.environ.setdefault("PREFECT_SERVER_API_AUTH_STRING", password)


def _find_api() -> str | None:
    """Return the URL of the Prefect API that the environment or the active profile names."""
    import tomllib

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
    """Raise if the Prefect API does not answer: its own client would keep asking for minutes."""
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
