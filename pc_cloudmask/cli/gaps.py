"""The command `gaps`: who has which scenes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, app, complain, options
from pc_cloudmask.cli.options import (
    AreaOption,
    BboxOption,
    DatetimeOption,
    IntersectsOption,
    StoreOption,
    TileOption,
)

if TYPE_CHECKING:
    from pc_cloudmask.runs.gaps import Gap, GapReport

#: Gaps that the terminal shows; the JSON report has them all.
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

    Of the last 60 days, unless --datetime says otherwise. The second API is that of CLOUDMASK_SECOND_API.
    Exit status 0: all were asked, gaps or not; 1: one was out of reach.
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
    print_json(report.as_json()) if options.json else _print(report)
    for problem in report.problems:
        complain(problem)
    if not report.is_complete:
        raise typer.Exit(EXIT_FAILED)


def _print(report: GapReport) -> None:
    """Print who was asked, then the gaps, each in a row."""
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
        shown = (_build_row(gap, unasked) for gap in report.gaps[:SHOWN_GAPS])
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


def _build_row(gap: Gap, unasked: Collection[str]) -> tuple[str, ...]:
    """Return the scene, what each catalogue has of it, and what is noted of it in ours."""
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
