"""Commands on the published catalog: `status` and `check`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.app import EXIT_FAILED, app, load_settings, options
from flows.cli.shared_options import StoreOption


@app.command()
def status(
    tile: Annotated[
        list[str] | None,
        typer.Option(metavar="TILE…", help="Ask the source which days of these tiles are missing."),
    ] = None,
    datetime: Annotated[str | None, typer.Option(metavar="INTERVAL", help="… within this interval.")] = None,
    items: Annotated[
        str | None, typer.Option(metavar="FILE|URL", help="… or compare with these items, no search.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Count scenes by state; name what waits or failed, and the days that are missing."""
    from flows.cli.output import print_json, print_status
    from flows.request import IngestRequest
    from flows.status import read_status

    request = IngestRequest(
        tiles=tuple(tile or ()), datetime=datetime, items=items, store=store, config=options.config
    )
    found = read_status(request)
    print_json(found.as_json()) if options.json else print_status(found)


@app.command()
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is wrong, then look again.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --repair: take out any number of broken items.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Count the pixels of every mask, too.")] = False,
    store: StoreOption = None,
) -> None:
    """Find what is wrong in the published catalog, or mend it; exit status 1 if something is left."""
    from flows.cli.output import print_check, print_json
    from flows.publish.check import CheckOptions, check_catalog
    from flows.publish.repair import REMOVAL_LIMIT
    from flows.stac.links import CatalogContext
    from flows.wiring import Wiring

    settings = load_settings(store=store)
    wiring = Wiring(settings, read_only=not repair)
    limit, decode = None if yes else REMOVAL_LIMIT, None
    if deep:
        from flows.published import decode_mask

        decode = decode_mask
    report = check_catalog(
        wiring.store,
        CatalogContext(settings.public_url),
        repair=repair,
        now=wiring.now,
        single_writer=settings.single_writer,
        options=CheckOptions(limit, decode),
    )
    if options.json:
        from dataclasses import asdict

        print_json({**asdict(report), "whole": report.is_whole})
    else:
        print_check(report)
    if not report.is_whole:
        raise typer.Exit(EXIT_FAILED)
