"""Commands on the published catalog: `status`, `check`, `index`, `export`, `doctor`, and `gaps`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pc_cloudmask.cli import options as opt
from pc_cloudmask.cli.app import (
    SHOWN_SCENES,
    app,
    complain,
    count,
    exit_unless,
    load_settings,
    options,
    print_json,
    say,
    say_first,
)
from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from pc_cloudmask.catalog.export import LeftOut
    from pc_cloudmask.catalog.findings import CheckReport, Finding
    from pc_cloudmask.catalog.states import NotedState
    from pc_cloudmask.runs.gaps import Gap, GapReport
    from pc_cloudmask.runs.plan import Status


@app.command()
def status(
    tile: opt.Tile = None,
    datetime: opt.Datetime = None,
    items: opt.Items = None,
    store: opt.Store = None,
) -> None:
    """Count scenes by state, and name those that are waiting or failed.

    With --tile or --items, also name the days for which the source has scenes that are not published.
    """
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.plan import read_status
    from pc_cloudmask.runs.request import IngestRequest

    request = IngestRequest(
        tiles=tuple(tile or ()), datetime=datetime, items=items, store=store, config=options.config
    )
    found = read_status(RunContext.of(request, read_only=True), request)
    print_json(found.as_json()) if options.json else _print_status(found)


@app.command()
def check(
    repair: Annotated[bool, opt.flag("--repair", "Mend what is wrong, then look again.")] = False,
    yes: Annotated[bool, opt.flag("--yes", "With --repair: take out any number of broken items.")] = False,
    deep: Annotated[bool, opt.flag("--deep", "Read and validate every raster, too.")] = False,
    store: opt.Store = None,
) -> None:
    """Find what is wrong in the published catalog, or repair it; exit status 1 if something is left."""
    from pc_cloudmask.catalog.check import REMOVAL_LIMIT, CheckOptions, check_catalog
    from pc_cloudmask.catalog.fields import CatalogContext
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
    print_json({**asdict(report), "whole": report.is_whole}) if options.json else _print_check(report)
    exit_unless(report.is_whole)


@app.command()
def index(store: opt.Store = None) -> None:
    """Rebuild the geoparquet mirror, for DuckDB, pyarrow or rustac, and the tile index, for GDAL and QGIS."""
    from pc_cloudmask.catalog.layout import CATALOG_KEY, TILE_INDEX_KEY
    from pc_cloudmask.catalog.mirror import rebuild_mirror
    from pc_cloudmask.runs.context import RunContext

    context = RunContext(load_settings(store=store))
    if context.store.find_object(CATALOG_KEY) is None:
        raise SettingsError(
            f"store {context.store.url} holds no catalog of masks: "
            "run cloudmask ingest first, or name another --store"
        )
    report = rebuild_mirror(context.store, context.publisher)
    if options.json:
        print_json(asdict(report))
    else:
        say(
            f"{count(report.items, 'item')} in {count(len(report.files), 'file')}; "
            f"{count(report.retired, 'older part')} removed"
        )
        for key in (*report.files, TILE_INDEX_KEY):
            say(f"{context.store.url}/{key}")
    _complain_of_left_out(report.left_out)


@app.command()
def export(
    out: Annotated[Path, opt.value("DIR", "Where the files go.")],
    store: opt.Store = None,
) -> None:
    """Write the catalog as pgstac loads it: items with absolute hrefs, and a script that deletes what is gone."""
    from pc_cloudmask.catalog.export import export_catalog
    from pc_cloudmask.runs.context import RunContext

    settings = load_settings(store=store)
    found = RunContext(settings, read_only=True).store
    report = export_catalog(found, out, settings.public_url or found.url)
    if options.json:
        print_json(asdict(report))
    else:
        say(f"{count(report.items, 'item')}: {' '.join(report.files)}")
    _complain_of_left_out(report.left_out)


def _complain_of_left_out(left_out: Sequence[LeftOut]) -> None:
    """Name what a table or an export lacks; exit with status 1 if anything is missing."""
    say_first((f"left out: {each}" for each in left_out), indent="", tell=complain)
    exit_unless(not left_out)


@app.command()
def doctor(store: opt.Store = None, method: opt.Method = None) -> None:
    """Say which of settings, credentials, endpoints and store work, and how to fix what does not."""
    from pc_cloudmask.cli.output import print_table
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.runs.doctor import examine

    findings = list(examine(RunContext(load_settings(store=store, method=opt.join_names(method)))))
    healthy = all(finding.works for finding in findings if finding.needed)
    names = ("what", "verdict", "detail")
    rows = [tuple(getattr(finding, name) for name in names) for finding in findings]
    if options.json:
        print_json({"healthy": healthy, "findings": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        print_table("cloudmask doctor", names, rows)
    exit_unless(healthy)


#: The number of gaps that the terminal shows; the JSON report has all of them.
_SHOWN_GAPS = 100


@app.command()
def gaps(
    area: opt.Area = None,
    tile: opt.Tile = None,
    bbox: opt.Bbox = None,
    intersects: opt.Intersects = None,
    datetime: opt.Datetime = None,
    parquet: Annotated[
        bool, opt.flag("--parquet", "Put the table into the store too, as gaps.parquet.")
    ] = False,
    store: opt.Store = None,
) -> None:
    """Name the scenes that the source, our catalog, Earth Engine or a second STAC API lack, and who has them.

    Covers the last 60 days, unless --datetime says otherwise. The second API is that of CLOUDMASK_SECOND_API.
    Exit status 0: all answered, gaps or not; 1: one was unreachable.
    """
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
    exit_unless(report.is_complete)


def _print_gaps(report: GapReport) -> None:
    """Print which catalogues were asked, then the gaps, one per row."""
    from pc_cloudmask.cli.output import print_table

    rows = []
    for answer in report.answers:
        counts = ", ".join(f"{number} {name}" for name, number in answer.counts.items())
        scenes = "" if answer.scenes is None else str(answer.scenes)
        lacks = str(report.count_lacking(answer.name)) if answer.asked else "?"
        detail = "; ".join(filter(None, (answer.where, answer.why_not, counts)))
        rows.append((answer.name, scenes, lacks, detail))
    title = f"Scenes from {report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}, in {', '.join(report.areas)}"
    print_table(title, ("what", "has", "lacks", "detail"), rows)
    if report.gaps:
        columns = ("scene", *(answer.name.replace("_", " ") for answer in report.answers), "detail")
        unasked = {answer.name for answer in report.answers if not answer.where}
        shown = (_build_gap_row(gap, unasked) for gap in report.gaps[:_SHOWN_GAPS])
        print_table("Who has what others lack", columns, shown)
    if len(report.gaps) > _SHOWN_GAPS:
        say(f"… and {len(report.gaps) - _SHOWN_GAPS} more; --json names them all")
    if report.uneven:
        say(
            f"{len(report.uneven)} of the scenes are of more datastrips in one catalogue than in another, which may "
            "be cut otherwise: --json names them"
        )
    say(report.summary)


def _build_gap_row(gap: Gap, unasked: Collection[str]) -> tuple[str, ...]:
    """Return the scene, what each catalogue has of it, and what ours has recorded about it."""
    from pc_cloudmask.runs.gaps import CatalogueName

    scene = gap.scene
    cells = []
    for name in CatalogueName:
        if holding := scene.holdings.get(name):
            cells.append(f"{holding.told} {holding.since:%Y-%m-%d %H:%M}")
        else:
            cells.append("lacks" if name in gap.lacking else "not asked" if name in unasked else "?")
    noted = f"{gap.state}: {gap.reason}" if gap.state else ""
    return (f"{scene.tile} {scene.platform} {scene.start:%Y-%m-%d %H:%M:%S}", *cells, noted)


def _print_check(report: CheckReport) -> None:
    """Print the findings of a check, one per line, and what to do about them."""
    unknown = report.unknown_objects
    _print_findings(report.findings, report.problems + unknown)
    if report.is_whole and not (report.catalogs or report.problems):
        say("there is no catalog yet: cloudmask ingest or watch makes one")
        return
    say(
        f"looked at {count(report.items, 'item')}, {count(report.catalogs, 'catalog')}, "
        f"{count(report.files, 'file')}; {report.pending} being published; {_count_problems(report.problems)}"
    )
    if report.looked_again:
        say(f"repaired, and looked again: {_count_problems(report.left)}")
        _print_findings(report.left_findings, report.left + unknown)
    elif report.repaired and report.problems:
        say("nothing was repaired")
    for line in _advise(report):
        say(line)


def _advise(report: CheckReport) -> Iterator[str]:
    """Yield what the user may do about the findings, or about what a repair has left."""
    if report.unlinked:
        yield (
            f"broken items taken out of the catalog: {report.unlinked}; cloudmask retry publishes them. "
            "Their files stay for a week; an item that proves to be sound comes back with the next --repair"
        )
    if report.unknown_objects:
        yield (
            f"not the catalog's: {count(report.unknown_objects, 'object')}, which readers never see and a "
            "repair leaves alone; remove what nobody needs"
        )
    if report.held_back:
        yield (
            f"broken items left in the catalog: {report.held_back}, as so many may be a fault of the store. "
            "If you are sure that they are broken: cloudmask check --repair --yes"
        )
    if report.unread:
        yield (
            f"could not be read: {report.unread}, of which nothing is known; a repair leaves all that they "
            "concern alone. See to the connection, credentials or owner of the files, then check again"
        )
    if report.mendable and not report.repaired:
        which = "what was found" if report.mendable == report.problems else f"{report.mendable} of them"
        yield f"cloudmask check --repair mends {which}"


def _print_findings(findings: Sequence[Finding], problems: int) -> None:
    for finding in findings:
        say(f"  {finding}")
    if problems > len(findings):
        say(f"  … and {problems - len(findings)} more")


def _count_problems(problems: int) -> str:
    return count(problems, "problem") if problems else "nothing wrong found"


def _print_status(status: Status) -> None:
    """Print counts, what is not published, and the missing days."""
    census = status.census
    provisional = f" ({census.provisional} provisionally)" if census.provisional else ""
    say(
        f"{census.published} published{provisional} on {len(census.days)} tiles, {census.pending} being published, "
        f"{census.waiting} waiting, {census.failed} failed, of which {status.quarantined} quarantined"
    )
    say_first(map(_describe_state, status.states))
    if not census.published:
        say("there is no catalog yet: cloudmask ingest or watch makes one")
    for tile, days in (status.gaps or {}).items():
        shown = ", ".join(day.isoformat() for day in days[:SHOWN_SCENES])
        more = ", …" if len(days) > SHOWN_SCENES else ""
        say(f"  {tile}: {len(days)} days are missing: {shown}{more}")


def _describe_state(state: NotedState) -> str:
    again = f", next try {state.next_try:%Y-%m-%d %H:%M}" if state.next_try else ""
    kind = "quarantined" if state.is_quarantined else state.kind
    return f"{kind}: {state.item_id}: {state.reason} ({state.attempts} attempts{again})"
