"""The output of commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from pc_cloudmask.catalog.layout import build_item_title
from pc_cloudmask.runs.report import Observer, Report, SceneOutcome, SceneState
from pc_cloudmask.text import encode_for_terminal, make_printable

if TYPE_CHECKING:
    from pc_cloudmask.catalog.findings import CheckReport, Finding
    from pc_cloudmask.demo.demo import SceneScore
    from pc_cloudmask.runs.plan import Plan, PlannedScene, Status
    from pc_cloudmask.viewing.observations import CalendarRow, MonthOfTile


#: The number of failed and waiting scenes that the terminal names; the JSON report has all of them.
SHOWN_SCENES = 20
stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


def say(line: str) -> None:
    """Print a line for people on stdout: no markup, and nothing that a terminal would obey."""
    stdout.print(Text(make_printable(line)), soft_wrap=True)


def count(number: int, noun: str) -> str:
    """Return ``1 item`` or ``2 items``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def print_json(document: Any) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(encode_for_terminal(document, indent=2) + "\n")


def print_json_line(document: Any) -> None:
    """Print one JSON object on a line of stdout, at once."""
    sys.stdout.write(encode_for_terminal(document) + "\n")
    sys.stdout.flush()


def print_report(report: Report) -> None:
    """Print the report as a few lines for people."""
    say(report.summary)
    for problem in report.problems:
        say(f"  problem: {problem}")
    shown = (("waiting", report.waiting), ("failed", report.failed), ("held back", report.held_back))
    for title, outcomes in shown:
        for outcome in outcomes[:SHOWN_SCENES]:
            say(f"  {title}: {_describe(outcome)}")
        if len(outcomes) > SHOWN_SCENES:
            say(f"  … and {len(outcomes) - SHOWN_SCENES} more {title}; --json names them all")


_WORDS = frozenset({"scene", "what", "verdict", "detail"})


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; words are aligned to the left, numbers to the right."""
    table = Table(title=Text(make_printable(title), style="bold"), title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="left" if column in _WORDS else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(make_printable(cell)) for cell in row))  # never markup
    stdout.print(table)


class ProgressObserver(Observer):
    """Shows counts and throughput during a run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("scenes", total=0, counts="")
        self._counts = dict.fromkeys(SceneState, 0)

    def scenes_found(self, count: int) -> None:
        """Lengthen the bar."""
        total = self._progress.tasks[self._task].total or 0
        self._progress.update(self._task, total=total + count)

    def scene_ended(self, outcome: SceneOutcome) -> None:
        """Advance the bar; name failed scenes."""
        self._counts[outcome.state] += 1
        counts = ", ".join(f"{count} {state}" for state, count in self._counts.items() if count)
        elapsed_s = self._progress.tasks[self._task].elapsed or 1.0
        per_minute = 60 * sum(self._counts.values()) / elapsed_s
        self._progress.update(self._task, advance=1, counts=f"{counts}; {per_minute:.0f} scenes a minute")


@contextmanager
def show_progress() -> Iterator[ProgressObserver]:
    """Show a progress bar on stderr, on a terminal only."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[counts]}"),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True) as progress:
        yield ProgressObserver(progress)


def print_scores(scores: Sequence[SceneScore], store: str) -> None:
    """Print the demo's scores, one line per scene, the catalog's location, and how to look at it."""
    rows = [
        (
            f"{scene.tile} {build_item_title(scene.scene_id)[:10]}",
            f"{scene.score.cloud_recall:.3f}",
            f"{scene.score.cloud_iou:.3f}",
            f"{scene.score.shadow_recall:.3f}",
            f"{scene.score.shadow_iou:.3f}",
            f"{scene.score.water_shadow_found_px}/{scene.score.water_shadow_px}",
            f"{scene.score.haze_found_px}/{scene.score.haze_px}",
        )
        for scene in scores
    ]
    columns = ("scene", "cloud\nrecall", "\nIoU", "shadow\nrecall", "\nIoU", "shadow on\nwater", "\nhaze")
    print_table("Published masks against the known truth", columns, rows)
    say(
        "shadow on water, haze: masked/true pixels; the method looks for neither, but recall and IoU count both"
    )
    say(f"catalog: {store}/catalog.json; to look at it: cloudmask serve --store {store}")


def _describe_bytes(cost: Plan | PlannedScene) -> str:
    """Return how much is read from Earth Engine and, if anything, from the items' own assets."""
    assets = f", {cost.asset_bytes / 1e6:.1f} MB of assets" if cost.asset_bytes else ""
    return f"{cost.bytes / 1e6:.1f} MB{assets}"


def print_plan(plan: Plan) -> None:
    """Print what a dry run found."""
    for scene in plan.would_publish:
        say(f"  {scene.item}: {scene.requests} requests, {_describe_bytes(scene)}")
    again = f", {len(plan.provisional)} of them again, by a better method" if plan.provisional else ""
    say(
        f"{len(plan.would_publish)} to publish{again}, {len(plan.skipped)} published already, "
        f"{len(plan.failed)} failed; {plan.requests} requests to Earth Engine, "
        f"{_describe_bytes(plan)}; nothing was written"
    )
    for outcome in plan.failed:
        say(f"  failed: {_describe(outcome)}")


def print_check(report: CheckReport) -> None:
    """Print the findings of a check, one per line, and what to do about them."""
    unknown = report.unknown_objects
    _print_findings(report.findings, report.problems + unknown)
    if report.is_whole and not (report.catalogs or report.problems):
        say("there is no catalog yet: cloudmask ingest or watch makes one")
        return
    say(
        f"looked at {count(report.items, 'item')}, {count(report.catalogs, 'catalog')}, "
        f"{count(report.files, 'file')}; "
        f"{report.pending} being published; {_count_problems(report.problems)}",
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


def print_status(status: Status) -> None:
    """Print counts, what is not published, and the missing days."""
    census = status.census
    provisional = f" ({census.provisional} provisionally)" if census.provisional else ""
    say(
        f"{census.published} published{provisional} on {len(census.days)} tiles, {census.pending} being published, "
        f"{census.waiting} waiting, {census.failed} failed, of which {status.quarantined} quarantined"
    )
    for state in status.states[:SHOWN_SCENES]:
        again = f", next try {state.next_try:%Y-%m-%d %H:%M}" if state.next_try else ""
        kind = "quarantined" if state.is_quarantined else state.kind
        say(f"  {kind}: {state.item_id}: {state.reason} ({state.attempts} attempts{again})")
    if len(status.states) > SHOWN_SCENES:
        say(f"  … and {len(status.states) - SHOWN_SCENES} more; --json names them all")
    if not census.published:
        say("there is no catalog yet: cloudmask ingest or watch makes one")
    for tile, days in (status.gaps or {}).items():
        shown = ", ".join(day.isoformat() for day in days[:SHOWN_SCENES])
        more = ", …" if len(days) > SHOWN_SCENES else ""
        say(f"  {tile}: {len(days)} days are missing: {shown}{more}")


def _describe(outcome: SceneOutcome) -> str:
    """Return the scene and the reason; the reason's text may begin with the scene itself."""
    reason = outcome.reason.removeprefix("item ").removeprefix(f"{outcome.id}: ")
    return f"{outcome.id}: {reason}"


def build_rows(months: Iterable[MonthOfTile]) -> list[CalendarRow]:
    """Return one row per tile and year; ``months`` are in this order."""
    # The import reads rasters: only commands that print a calendar pay for it.
    from pc_cloudmask.viewing.observations import CalendarRow

    return [
        CalendarRow(f"{tile} {year}", {month.month: (month.cloud_free, month.scenes) for month in of_year})
        for (tile, year), of_year in groupby(months, lambda month: (month.tile, month.year))
    ]


def print_calendar(title: str, months: list[MonthOfTile]) -> None:
    """Print the calendar as a table with sums; its cells are coloured on a terminal."""
    from pc_cloudmask.viewing.observations import MONTHS

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
    from pc_cloudmask.viewing.observations import blend_share

    some, all_ = counts
    if not all_:
        return Text("·", style="dim")
    red, green, blue = blend_share(some / all_)
    return Text(f"{some}/{all_}", style=f"black on rgb({red},{green},{blue})")
