"""The calendar that `stats` shows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from flows.cli.output import say, stdout
from flows.observations import MonthOfTile
from flows.printable import make_printable
from flows.rendering.calendar import MONTHS, CalendarRow, blend_share


def build_rows(months: Iterable[MonthOfTile]) -> list[CalendarRow]:
    """A row for each tile and year; ``months`` are in this order."""
    return [
        CalendarRow(f"{tile} {year}", {month.month: (month.cloud_free, month.scenes) for month in of_year})
        for (tile, year), of_year in groupby(months, lambda month: (month.tile, month.year))
    ]


def print_calendar(title: str, months: list[MonthOfTile]) -> None:
    """The calendar as a table, its cells coloured on a terminal, with sums."""
    if not months:
        say("no published scene matches; cloudmask status shows what is there")
        return
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("tile", no_wrap=True)
    for name in (*MONTHS, "all"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in build_rows(months):
        counts = [row.counts.get(month, (0, 0)) for month in range(1, len(MONTHS) + 1)]
        total = (sum(some for some, _ in counts), sum(all_ for _, all_ in counts))
        table.add_row(
            Text(make_printable(row.label)), *map(_build_cell, counts), Text("{}/{}".format(*total))
        )
    stdout.print(table)
    views = sum(month.clear_views for month in months)
    tiles = len({month.tile for month in months})
    scenes = sum(month.scenes for month in months)
    average = f"the average pixel was seen clear {views / tiles:.1f} times"
    say(f"{scenes} scene{'s' * (scenes > 1)} of {tiles} tile{'s' * (tiles > 1)}; {average}")


def _build_cell(counts: tuple[int, int]) -> Text:
    some, all_ = counts
    if not all_:
        return Text("·", style="dim")
    red, green, blue = blend_share(some / all_)
    return Text(f"{some}/{all_}", style=f"black on rgb({red},{green},{blue})")
