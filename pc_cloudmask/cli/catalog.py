"""Commands on the published catalog: `status` and `check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, app, complain, load_settings, options
from pc_cloudmask.cli.options import (
    DatetimeOption,
    ItemsOption,
    MethodOption,
    StoreOption,
    TileOption,
    join_names,
)
from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from pc_cloudmask.catalog.mirror import LeftOut


@app.command()
def status(
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    items: ItemsOption = None,
    store: StoreOption = None,
) -> None:
    """Count scenes by state; name those that wait or failed.

    With --tile or --items, name also the days of which the source has scenes that are not published.
    """
    from pc_cloudmask.cli.output import print_json, print_status
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.plan import read_status
    from pc_cloudmask.runs.request import IngestRequest

    request = IngestRequest(
        tiles=tuple(tile or ()), datetime=datetime, items=items, store=store, config=options.config
    )
    found = read_status(RunContext.of(request, read_only=True), request)
    print_json(found.as_json()) if options.json else print_status(found)


@app.command()
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is wrong, then look again.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --repair: take out any number of broken items.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read and validate every raster, too.")] = False,
    store: StoreOption = None,
) -> None:
    """Find what is wrong in the published catalog, or mend it; exit status 1 if something is left."""
    from pc_cloudmask.catalog.check import CheckOptions, check_catalog
    from pc_cloudmask.catalog.fields import CatalogContext
    from pc_cloudmask.catalog.repair import REMOVAL_LIMIT
    from pc_cloudmask.cli.output import print_check, print_json
    from pc_cloudmask.runs.context import RunContext

    settings = load_settings(store=store)
    context = RunContext(settings, read_only=not repair)
    report = check_catalog(
        context.store,
        CatalogContext(settings.public_url),
        repair=repair,
        now=context.now,
        single_writer=settings.single_writer,
        options=CheckOptions(None if yes else REMOVAL_LIMIT, deep),
    )
    if options.json:
        from dataclasses import asdict

        print_json({**asdict(report), "whole": report.is_whole})
    else:
        print_check(report)
    if not report.is_whole:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def index(
    store: StoreOption = None,
) -> None:
    """Rebuild the geoparquet mirror, for DuckDB, pyarrow or rustac, and the tile index, for GDAL and QGIS."""
    from pc_cloudmask.catalog.layout import CATALOG_KEY, TILE_INDEX_KEY
    from pc_cloudmask.catalog.mirror import rebuild_mirror
    from pc_cloudmask.cli.output import count, print_json, say
    from pc_cloudmask.runs.context import RunContext

    context = RunContext(load_settings(store=store))
    if context.store.find_object(CATALOG_KEY) is None:
        raise SettingsError(
            f"store {context.store.url} holds no catalog of masks: "
            "run cloudmask ingest first, or name another --store"
        )
    report = rebuild_mirror(context.store, context.publisher)
    if options.json:
        print_json(report.as_json())
    else:
        say(
            f"{count(report.items, 'item')} in {count(len(report.keys), 'file')}; "
            f"{count(report.retired, 'older part')} removed"
        )
        for key in (*report.keys, TILE_INDEX_KEY):
            say(f"{context.store.url}/{key}")
    _complain_of_left_out(report.left_out)


@app.command()
def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")],
    store: StoreOption = None,
) -> None:
    """Write the catalog as pgstac loads it: items with absolute hrefs, and a script that deletes what is gone."""
    from pc_cloudmask.catalog.export import export_catalog
    from pc_cloudmask.cli.output import count, print_json, say
    from pc_cloudmask.runs.context import RunContext

    settings = load_settings(store=store)
    found = RunContext(settings, read_only=True).store
    report = export_catalog(found, out, settings.public_url or found.url)
    if options.json:
        from dataclasses import asdict

        print_json({**asdict(report), "left_out": [each.as_json() for each in report.left_out]})
    else:
        say(f"{count(report.items, 'item')}: {' '.join(report.files)}")
    _complain_of_left_out(report.left_out)


def _complain_of_left_out(left_out: Sequence[LeftOut]) -> None:
    """Name what a table or an export lacks, and end in exit status 1 if there is any."""
    from pc_cloudmask.cli.output import SHOWN_SCENES

    for each in left_out[:SHOWN_SCENES]:
        complain(f"left out: {each}")
    if len(left_out) > SHOWN_SCENES:
        complain(f"… and {len(left_out) - SHOWN_SCENES} more; --json names them all")
    if left_out:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def doctor(
    store: StoreOption = None,
    method: MethodOption = None,
) -> None:
    """Say which of settings, credentials, endpoints and store work, and how to mend what does not."""
    from pc_cloudmask.cli.output import print_json, print_table
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.doctor import examine

    findings = list(examine(RunContext(load_settings(store=store, method=join_names(method)))))
    healthy = all(finding.works for finding in findings if finding.needed)
    if options.json:
        rows = [
            {"what": finding.what, "verdict": finding.verdict, "detail": finding.detail}
            for finding in findings
        ]
        print_json({"healthy": healthy, "findings": rows})
    else:
        table = [(finding.what, finding.verdict, finding.detail) for finding in findings]
        print_table("cloudmask doctor", ("what", "verdict", "detail"), table)
    if not healthy:
        raise typer.Exit(EXIT_FAILED)
