"""Commands that publish: `demo`, `ingest` and `retry`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, app, complain, options
from pc_cloudmask.cli.options import (
    AreaOption,
    BboxOption,
    ComputeOption,
    DatetimeOption,
    DryRunOption,
    EveryOption,
    ForceOption,
    IdsOption,
    IntersectsOption,
    ItemsOption,
    KeepInputsOption,
    LimitOption,
    LookBackOption,
    MethodOption,
    OnceOption,
    SinceOption,
    StoreOption,
    TileOption,
    complete_state,
    join_names,
    read_period,
)
from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from datetime import timedelta

    from pc_cloudmask.runs.area_state import LookBack
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.request import IngestRequest, WatchRequest


@app.command()
def ingest(
    bbox: BboxOption = None,
    intersects: IntersectsOption = None,
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    ids: IdsOption = None,
    items: ItemsOption = None,
    limit: LimitOption = None,
    method: MethodOption = None,
    compute: ComputeOption = None,
    store: StoreOption = None,
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
        method=join_names(method),
        compute=compute,
        store=store,
        keep_inputs=keep_inputs,
        force=force,
        config=options.config,
    )
    _print_plan(request) if dry_run else _publish(request)


def _publish(request: IngestRequest, context: RunContext | None = None) -> None:
    """Publish what ``request`` asks for; report those of its ids that no scene has."""
    from pc_cloudmask.cli.run import finish, name_missing, run_job

    report = run_job(request, context)
    name_missing(request, report.ids)
    finish(report)


def _print_plan(request: IngestRequest) -> None:
    from pc_cloudmask.cli.output import print_json, print_plan
    from pc_cloudmask.cli.run import name_missing
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.plan import plan_ingest

    plan = plan_ingest(RunContext.of(request, read_only=True), request)
    name_missing(request, plan.ids)
    print_json(plan.as_json()) if options.json else print_plan(plan)
    if plan.failed:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the catalog goes; default ./out.")
    ] = None,
) -> None:
    """Run the main job on the bundled sample archive and score it against its known truth."""
    from pc_cloudmask.cli.output import print_scores
    from pc_cloudmask.cli.run import finish, run_job
    from pc_cloudmask.demo.demo import build_demo_request, score_demo

    request = build_demo_request(options.config, out)
    report = run_job(request)
    scores = score_demo(request)
    catalog = f"{request.store}/catalog.json"
    if not options.json:
        print_scores(scores, str(request.store))
    finish(report, scores=[score.as_json() for score in scores], catalog=catalog)


@app.command()
def retry(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]…",
            help="Ids, beginnings of them, or tile and day: 22KFV 2018-12-14; "
            "default: all that failed, wait or are provisional.",
            autocompletion=complete_state,
        ),
    ] = None,
    items: ItemsOption = None,
    store: StoreOption = None,
) -> None:
    """Retry failed, waiting and provisional scenes now, even if they are not due."""
    from pc_cloudmask.catalog.layout import choose_same, join_tiles_and_days, match_name
    from pc_cloudmask.catalog.states import list_states
    from pc_cloudmask.cli.run import finish
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
        finish(Report())
    else:
        typer.echo("nothing waits or failed" if not ids else "none of these waits or failed")


@app.command()
def watch(
    once: OnceOption = False,
    every: EveryOption = None,
    area: AreaOption = None,
    tile: TileOption = None,
    bbox: BboxOption = None,
    intersects: IntersectsOption = None,
    since: SinceOption = None,
    look_back: LookBackOption = None,
    items: ItemsOption = None,
    limit: LimitOption = None,
    store: StoreOption = None,
) -> None:
    """Keep the catalog up to date: publish what is new, late or changed, withdraw what is gone."""
    from pc_cloudmask.cli.run import finish, run_job
    from pc_cloudmask.runs.request import WatchRequest

    period = read_period(once, every)
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
        finish(run_job(request))
    else:
        _watch_for_ever(request, period)


def _watch_for_ever(request: WatchRequest, period: timedelta) -> None:
    """Run once per ``period`` and print each report, with ``--json`` on one line; continue after a failed run."""
    import time

    from pc_cloudmask.cli.output import print_json_line, print_report
    from pc_cloudmask.cli.run import run_job
    from pc_cloudmask.contact import be_patient
    from pc_cloudmask.errors import CloudmaskError, SourceMistaken
    from pc_cloudmask.runs.report import Report

    be_patient()
    while True:
        started = time.monotonic()
        try:
            report = run_job(request)
        except CloudmaskError as error:
            # A page in place of the API may announce when it will be back.
            if not (error.retryable or isinstance(error, SourceMistaken)):
                raise
            report = Report(problems=(str(error),))
        print_json_line(report.as_json()) if options.json else print_report(report)
        time.sleep(max(0.0, period.total_seconds() - (time.monotonic() - started)))


def _read_look_back(names: list[str] | None) -> tuple[LookBack, ...] | None:
    from pc_cloudmask.runs.area_state import LookBack

    try:
        return tuple(LookBack(name) for name in names) if names else None
    except ValueError as error:
        raise SettingsError(f"--look-back {' '.join(names or ())!r:.40}: hot, recent or full") from error
