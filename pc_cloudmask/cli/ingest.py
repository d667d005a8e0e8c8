"""Commands that publish: `demo`, `ingest` and `retry`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, app, complain, options
from pc_cloudmask.cli.options import (
    BboxOption,
    DatetimeOption,
    IntersectsOption,
    ItemsOption,
    LimitOption,
    MethodOption,
    StoreOption,
    TileOption,
    parse_duration,
    split_commas,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from pc_cloudmask.runs.area_state import LookBack
    from pc_cloudmask.runs.request import WatchRequest


@app.command()
def ingest(
    bbox: BboxOption = None,
    intersects: IntersectsOption = None,
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(metavar="ID,…", callback=split_commas, help="Ids of items; may be repeated."),
    ] = None,
    items: ItemsOption = None,
    limit: LimitOption = None,
    method: MethodOption = None,
    compute: Annotated[
        str | None, typer.Option(help="Where Earth Engine's inputs become a mask: local, server.")
    ] = None,
    store: StoreOption = None,
    keep_inputs: Annotated[
        bool | None, typer.Option("--keep-inputs", help="Publish the cloud probability too.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be published; write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Publish again what is published already.")] = False,
) -> None:
    """Publish the masks of the scenes that match."""
    from pc_cloudmask.cli.run import check_reachable, finish, name_missing, run_ingest
    from pc_cloudmask.runs.request import IngestRequest

    request = IngestRequest(
        bbox=bbox,
        intersects=intersects,
        tiles=tuple(tile or ()),
        datetime=datetime,
        ids=tuple(ids or ()),
        items=items,
        limit=limit,
        method=method,
        compute=compute,
        store=store,
        keep_inputs=keep_inputs,
        force=force,
        config=options.config,
    )
    if dry_run:
        from pc_cloudmask.cli.output import print_json, print_plan
        from pc_cloudmask.runs.plan import plan_ingest

        check_reachable(request, request.read_query())
        plan = plan_ingest(request)
        name_missing(request, plan.ids)
        print_json(plan.as_json()) if options.json else print_plan(plan)
        if plan.failed:
            raise typer.Exit(EXIT_FAILED)
    else:
        report = run_ingest(request)
        name_missing(request, report.ids)
        finish(report)


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the catalog goes; default ./out.")
    ] = None,
) -> None:
    """Run the main job on the bundled sample archive and score it against its known truth."""
    from pc_cloudmask.cli.output import print_scores
    from pc_cloudmask.cli.run import finish, run_ingest
    from pc_cloudmask.demo.demo import build_demo_request, score_demo

    request = build_demo_request(options.config, out)
    report = run_ingest(request)
    scores = score_demo(request)
    catalog = f"{request.store}/catalog.json"
    if not options.json:
        print_scores(scores, catalog)
    finish(report, scores=[score.as_json() for score in scores], catalog=catalog)


@app.command()
def retry(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]…", help="Scenes; default: all of them.")
    ] = None,
    items: ItemsOption = None,
    store: StoreOption = None,
) -> None:
    """Try scenes again that failed or wait, whether it is time or not."""
    from pc_cloudmask.cli.run import finish, name_missing, run_ingest
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.ingest import find_remembered
    from pc_cloudmask.runs.report import Report
    from pc_cloudmask.runs.request import IngestRequest

    request = IngestRequest(items=items, store=store, config=options.config)
    remembered = find_remembered(RunContext(request.read_settings()).store)
    wanted = tuple(sorted(remembered.intersection(ids) if ids else remembered))
    if unknown := sorted(set(ids or ()) - remembered):
        complain(f"neither waiting nor failed: {', '.join(unknown)}")
    if not wanted and not options.json:
        typer.echo("nothing waits or failed" if not ids else "none of these waits or failed")
        return
    request = request.model_copy(update={"ids": wanted})
    report = run_ingest(request) if wanted else Report()
    name_missing(request, report.ids)
    finish(report)


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="One run; for cron and the like.")] = False,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A run each 30m, 1h, 1d …, until interrupted; default 1h."),
    ] = None,
    area: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,…", callback=split_commas, help="Areas of the settings file; default: all of them."
        ),
    ] = None,
    tile: TileOption = None,
    bbox: BboxOption = None,
    intersects: IntersectsOption = None,
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="Watch what was taken since 2018, 2018-12, 2018-12-14.")
    ] = None,
    look_back: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WINDOW,…",
            callback=split_commas,
            help="How far to look back: hot, recent, full; default: as far as is due.",
        ),
    ] = None,
    items: ItemsOption = None,
    limit: LimitOption = None,
    store: StoreOption = None,
) -> None:
    """Keep the catalog level with its source: what is new, late, changed or gone."""
    from datetime import timedelta

    from pc_cloudmask.cli.run import finish, run_watch
    from pc_cloudmask.errors import SettingsError
    from pc_cloudmask.runs.request import WatchRequest

    if once and every is not None:
        raise SettingsError("--once and --every exclude each other: give one of them")
    period = None if once else parse_duration(every) if every else timedelta(hours=1)
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
        finish(run_watch(request))
    else:
        _watch_for_ever(request, period)


def _watch_for_ever(request: WatchRequest, period: timedelta) -> None:
    """A run each ``period``, each one's report a line of JSON or of text; a run's failure is not the end."""
    import time

    from pc_cloudmask.cli.output import print_json_line, print_report
    from pc_cloudmask.cli.run import run_watch
    from pc_cloudmask.errors import CloudmaskError
    from pc_cloudmask.runs.report import Report

    while True:
        started = time.monotonic()
        try:
            report = run_watch(request)
        except CloudmaskError as error:
            if not error.retryable:
                raise
            report = Report(problems=(str(error),))
        print_json_line(report.as_json()) if options.json else print_report(report)
        time.sleep(max(0.0, period.total_seconds() - (time.monotonic() - started)))


def _read_look_back(names: list[str] | None) -> tuple[LookBack, ...] | None:
    from pc_cloudmask.errors import SettingsError
    from pc_cloudmask.runs.area_state import LookBack

    try:
        return tuple(LookBack(name) for name in names) if names else None
    except ValueError as error:
        raise SettingsError(f"--look-back {' '.join(names or ())!r:.40}: hot, recent or full") from error
