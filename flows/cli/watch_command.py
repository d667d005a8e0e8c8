"""The command `watch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app, options
from flows.cli.shared_options import StoreOption

if TYPE_CHECKING:
    from datetime import timedelta

    from flows.request import WatchRequest
    from flows.rings import Ring


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="One run; for cron and the like.")] = False,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A run each 30m, 1h, 1d …, until interrupted; default 1h."),
    ] = None,
    area: Annotated[
        list[str] | None, typer.Option(metavar="NAME…", help="Areas of the settings file; default: all.")
    ] = None,
    tile: Annotated[
        list[str] | None, typer.Option(metavar="TILE…", help="… or these MGRS tiles, such as 22KFV.")
    ] = None,
    bbox: Annotated[str | None, typer.Option(metavar="W,S,E,N", help="… or this box, in degrees.")] = None,
    intersects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="… or this GeoJSON geometry.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="Watch what was taken since 2018, 2018-12, 2018-12-14.")
    ] = None,
    ring: Annotated[
        list[str] | None,
        typer.Option(metavar="RING…", help="hot, recent, full: how far back; default: what is due."),
    ] = None,
    items: Annotated[
        str | None, typer.Option(metavar="FILE|URL", help="Watch these items in place of the source API.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Publish at most so many scenes a run.")] = None,
    store: StoreOption = None,
) -> None:
    """Keep the catalog level with its source: what is new, late, changed or gone."""
    from datetime import timedelta

    from flows.cli.duration import parse_duration
    from flows.cli.jobs import finish, run_watch
    from flows.errors import SettingsError
    from flows.request import WatchRequest

    if once and every is not None:
        raise SettingsError("--once and --every exclude each other: give one of them")
    period = None if once else parse_duration(every) if every else timedelta(hours=1)
    request = WatchRequest(
        areas=tuple(area or ()),
        tiles=tuple(tile or ()),
        bbox=bbox,
        intersects=intersects,
        since=since,
        rings=_read_rings(ring),
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

    from flows.cli.jobs import run_watch
    from flows.cli.output import print_json_line, print_report
    from flows.errors import CloudmaskError
    from flows.report import Report

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


def _read_rings(names: list[str] | None) -> tuple[Ring, ...] | None:
    from flows.errors import SettingsError
    from flows.rings import Ring

    try:
        return tuple(Ring(name) for name in names) if names else None
    except ValueError as error:
        raise SettingsError(f"--ring {' '.join(names or ())!r:.40}: hot, recent or full") from error
