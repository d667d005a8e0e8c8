"""What commands print: tables, the progress of a run, its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
from pc_cloudmask.cli.app import count, say, say_first
from pc_cloudmask.runs.report import Observer, Report, SceneOutcome, SceneState
from pc_cloudmask.text import make_printable

if TYPE_CHECKING:
    from pc_cloudmask.demo.demo import SceneScore
    from pc_cloudmask.runs.plan import Plan, PlannedScene
    from pc_cloudmask.viewing.library import MonthOfTile

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)
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


def print_report(report: Report) -> None:
    """Print the report as a few lines for people."""
    say(report.summary)
    for problem in report.problems:
        say(f"  problem: {problem}")
    shown = (("waiting", report.waiting), ("failed", report.failed), ("held back", report.held_back))
    for title, outcomes in shown:
        say_first((f"{title}: {_describe(outcome)}" for outcome in outcomes), kind=f" {title}")


def print_scores(scores: Sequence[SceneScore], store: str) -> None:
    """Print the demo's scores, one line per scene, the catalog's location, and how to look at it."""
    rows = [
        (
            f"{scene.tile} {build_item_title(scene.scene_id)[:10]}",
            *(
                f"{share:.3f}"
                for share in (got.cloud_recall, got.cloud_iou, got.shadow_recall, got.shadow_iou)
            ),
            f"{got.water_shadow_found_px}/{got.water_shadow_px}",
            f"{got.haze_found_px}/{got.haze_px}",
        )
        for scene, got in ((scene, scene.score) for scene in scores)
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


def _describe(outcome: SceneOutcome) -> str:
    """Return the scene and the reason; the reason's text may begin with the scene itself."""
    reason = outcome.reason.removeprefix("item ").removeprefix(f"{outcome.id}: ")
    return f"{outcome.id}: {reason}"


def print_calendar(title: str, months: Sequence[MonthOfTile]) -> None:
    """Print the calendar as a table with sums; its cells are coloured on a terminal."""
    # The import reads rasters: only commands that print a calendar pay for it.
    from pc_cloudmask.viewing.pictures import MONTHS, build_calendar

    if not months:
        say("no published scene matches; cloudmask status shows what is there")
        return
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("tile", no_wrap=True)
    for name in (*MONTHS, "all"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, counts in build_calendar(months).items():
        some, scenes = map(sum, zip(*counts, strict=True))
        table.add_row(Text(make_printable(label)), *map(_build_cell, counts), f"{some}/{scenes}")
    stdout.print(table)
    tiles = len({month.tile for month in months})
    views = sum(month.clear_views for month in months) / tiles
    total = count(sum(month.scenes for month in months), "scene")
    say(f"{total} of {count(tiles, 'tile')}; the average pixel was seen clear {views:.1f} times")


def _build_cell(counts: tuple[int, int]) -> Text:
    from pc_cloudmask.viewing.pictures import blend_share

    some, scenes = counts
    if not scenes:
        return Text("·", style="dim")
    red, green, blue = blend_share(some / scenes)
    return Text(f"{some}/{scenes}", style=f"black on rgb({red},{green},{blue})")
