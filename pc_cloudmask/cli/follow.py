"""The command `follow`: what is published, replaced and withdrawn, as it happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli.app import app, complain, load_settings, options
from pc_cloudmask.cli.options import CatalogOption, read_period

if TYPE_CHECKING:
    from pc_cloudmask.catalog.feed import Event

SinceOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME|ID|CURSOR",
        help="Begin at a day or instant, or resume after an event's id or cursor; default: now.",
    ),
]
OnceOption = Annotated[bool, typer.Option("--once", help="Print what is there, and end.")]
EveryOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Look every 10s, 30s, 5m …; default: 30s.")
]


@app.command()
def follow(
    since: SinceOption = None,
    once: OnceOption = False,
    every: EveryOption = None,
    store: CatalogOption = None,
) -> None:
    """Print what is published, replaced and withdrawn, as it is recorded, until interrupted.

    With --json, or when output is redirected or piped, each line is a CloudEvent with its cursor.
    """
    from pc_cloudmask.errors import StoreUnavailable
    from pc_cloudmask.storage.stores import open_reader
    from pc_cloudmask.viewing.follow import PAUSE_S, FeedReader

    period = read_period(once, every if once or every else f"{PAUSE_S:g}s")
    feed = FeedReader(open_reader(store or load_settings().store), since)
    _print(feed.read_new())
    while period is not None:
        time.sleep(period.total_seconds())
        try:
            _print(feed.read_new())
        except StoreUnavailable as error:
            complain(f"asked again in {period.total_seconds():g} s: {error}")
    complain(f"to go on from here: --since {feed.place}")


def _print(events: Iterable[Event]) -> None:
    """Print events as they come."""
    from pc_cloudmask.cli.output import print_json_line

    as_json = options.json or not sys.stdout.isatty()
    for event in events:
        if as_json:
            print_json_line(event)
        else:
            typer.echo(_describe(event))


def _describe(event: Event) -> str:
    """Return a line for people: when, what, and of which scene."""
    from pc_cloudmask.cli.find import show_moment, show_share
    from pc_cloudmask.text import make_printable

    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    clear = data.get("clear_percentage")
    what = str(event["type"]).rpartition(".")[2]
    fields = (
        show_moment(event["time"]),
        f"{what:<9}",
        str(data.get("tile") or "-"),
        f"{show_share(clear if isinstance(clear, int | float) else None):>5} % clear",
        event["subject"],
    )
    return make_printable("  ".join(fields))
