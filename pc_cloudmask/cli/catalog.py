"""Commands on the published catalog: `status`, `check`, and `gaps`, who has which scenes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, app, complain, load_settings, options
from pc_cloudmask.cli.options import (
    AreaOption,
    BboxOption,
    DatetimeOption,
    IntersectsOption,
    ItemsOption,
    MethodOption,
    StoreOption,
    TileOption,
    join_names,
)
from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from pc_cloudmask.catalog.export import LeftOut
    from pc_cloudmask.runs.gaps import Gap, GapReport


@app.command()
def status(
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    items: ItemsOption = None,
    store: StoreOption = None,
) -> None:
    """Count scenes by state, and name those that are waiting or failed.

    With --tile or --items, also name the days for which the source has scenes that are not published.
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
    """Find what is wrong in the published catalog, or repair it; exit status 1 if something is left."""
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
    """Name what a table or an export lacks; exit with status 1 if anything is missing."""
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
    """Say which of settings, credentials, endpoints and store work, and how to fix what does not."""
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


#: The number of gaps that the terminal shows; the JSON report has all of them.
SHOWN_GAPS = 100


@app.command()
def gaps(
    area: AreaOption = None,
    tile: TileOption = None,
    bbox: BboxOption = None,
    intersects: IntersectsOption = None,
    datetime: DatetimeOption = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Put the table into the store too, as gaps.parquet.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Name the scenes that the source, our catalog, Earth Engine or a second STAC API lack, and who has them.

    Covers the last 60 days, unless --datetime says otherwise. The second API is that of CLOUDMASK_SECOND_API.
    Exit status 0: all answered, gaps or not; 1: one was unreachable.
    """
    from pc_cloudmask.cli.output import print_json
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.gap_search import search_gaps
    from pc_cloudmask.runs.request import GapsRequest

    request = GapsRequest(
        areas=tuple(area or ()),
        tiles=tuple(tile or ()),
        bbox=bbox,
        intersects=intersects,
        datetime=datetime,
        parquet=parquet,
        store=store,
        config=options.config,
    )
    report = search_gaps(RunContext.of(request, read_only=not parquet), request)
    print_json(report.as_json()) if options.json else _print_gaps(report)
    for problem in report.problems:
        complain(problem)
    if not report.is_complete:
        raise typer.Exit(EXIT_FAILED)


def _print_gaps(report: GapReport) -> None:
    """Print which catalogues were asked, then the gaps, one per row."""
    from pc_cloudmask.cli.output import print_table, say

    rows = [
        (
            answer.name,
            "" if answer.scenes is None else str(answer.scenes),
            str(report.count_lacking(answer.name)) if answer.asked else "?",
            "; ".join(filter(None, (answer.where, answer.why_not, _describe_counts(answer.counts)))),
        )
        for answer in report.answers
    ]
    title = f"Scenes from {report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}, in {', '.join(report.areas)}"
    print_table(title, ("what", "has", "lacks", "detail"), rows)
    if report.gaps:
        columns = ("scene", *(answer.name.replace("_", " ") for answer in report.answers), "detail")
        unasked = {answer.name for answer in report.answers if not answer.where}
        shown = (_build_gap_row(gap, unasked) for gap in report.gaps[:SHOWN_GAPS])
        print_table("Who has what others lack", columns, shown)
    if len(report.gaps) > SHOWN_GAPS:
        say(f"… and {len(report.gaps) - SHOWN_GAPS} more; --json names them all")
    if report.uneven:
        say(
            f"{len(report.uneven)} of the scenes are of more datastrips in one catalogue than in another, which may "
            "be cut otherwise: --json names them"
        )
    say(report.summary)


def _describe_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _build_gap_row(gap: Gap, unasked: Collection[str]) -> tuple[str, ...]:
    """Return the scene, what each catalogue has of it, and what ours has recorded about it."""
    from pc_cloudmask.runs.gaps import CatalogueName

    scene = gap.scene
    cells = []
    for name in CatalogueName:
        holding = scene.holdings.get(name)
        if holding:
            cells.append(f"{holding.told} {holding.since:%Y-%m-%d %H:%M}")
        else:
            cells.append("lacks" if name in gap.lacking else "not asked" if name in unasked else "?")
    noted = f"{gap.state}: {gap.reason}" if gap.state else ""
    return (f"{scene.tile} {scene.platform} {scene.start:%Y-%m-%d %H:%M:%S}", *cells, noted)
