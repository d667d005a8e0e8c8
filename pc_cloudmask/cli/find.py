"""Commands that find scenes: `ls` lists items, `clear` reports when an area was clear, `follow` what changes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pc_cloudmask.cli import options as opt
from pc_cloudmask.cli.app import app, complain, count, name_left_out, open_catalog, options, print_json, say
from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.text import make_printable

if TYPE_CHECKING:
    from pc_cloudmask.catalog.feed import Event
    from pc_cloudmask.viewing.clear import AreaReport, ClearScene
    from pc_cloudmask.viewing.library import ListedItem

GeometryOption = Annotated[
    str | None,
    opt.value(
        "FILE|GEOJSON", "An area: a GeoJSON geometry, feature or collection, in a file or as it stands."
    ),
]
MaxCloudOption = Annotated[
    float | None,
    opt.value("PCT", "Leave out masks with more cloud and shadow, of their valid pixels.", min=0, max=100),
]
MadeByOption = Annotated[list[str] | None, opt.methods("Masks of these methods.")]
ProvisionalOption = Annotated[
    bool | None,
    opt.flag("--provisional/--final", "Only masks that a better method is to replace, or only others."),
]
CsvOption = Annotated[bool, opt.flag("--csv", "Print comma-separated values.")]
OnlyIdsOption = Annotated[bool, opt.flag("--ids", "Print ids alone, one a line.")]


@app.command()
def ls(
    tile: opt.Tile = None,
    bbox: opt.Bbox = None,
    intersects: GeometryOption = None,
    datetime: opt.Datetime = None,
    max_cloud: MaxCloudOption = None,
    method: MadeByOption = None,
    provisional: ProvisionalOption = None,
    csv: CsvOption = False,
    ids: OnlyIdsOption = False,
    store: opt.Catalog = None,
) -> None:
    """List published items by time: how much of each is clear, cloud and shadow, and by which method."""
    from pc_cloudmask.catalog.search import ItemChoice
    from pc_cloudmask.viewing.library import ListedItem, list_items

    _check_forms(csv=csv, ids=ids, json=options.json)
    query = opt.read_query(tile, datetime, bbox, intersects)
    choice = ItemChoice(query, max_cloud, tuple(method or ()), provisional)
    catalog = open_catalog(store)
    broken: dict[str, CloudmaskError] = {}
    items = list_items(catalog, choice, broken)
    rows = (item.as_json() for item in items)
    if options.json:
        left_out = [{"id": item_id, "error": str(error)} for item_id, error in sorted(broken.items())]
        print_json({"items": list(rows), "left_out": left_out})
    elif csv:
        _print_csv([field.name for field in fields(ListedItem)], rows)
    elif ids:
        _print_lines(item.id for item in items)
    else:
        _print_items(items, catalog.url)
    name_left_out(broken)


AreaOption = Annotated[
    str,
    opt.value(
        "FILE|GEOJSON",
        "Your area: a GeoJSON geometry, feature or collection, in a file or as it stands.",
        "--intersects",
        show_default=False,
    ),
]
MinClearOption = Annotated[
    float | None, opt.value("PCT", "Only scenes of which so much of the area is clear.", min=0, max=100)
]
SORTS = ("date", "clear")
SortOption = Annotated[
    str,
    typer.Option(
        help="date: the earliest first; clear: the clearest first.",
        autocompletion=opt.complete_names(lambda _: SORTS),
    ),
]
KeepOption = Annotated[
    bool, opt.flag("--keep/--no-keep", "Keep what was counted, for the next time that you ask.")
]
ChartOption = Annotated[
    Path | None, opt.value("FILE.png|svg", "Draw a chart too: a line for each year, a bar for each day.")
]


@app.command()
def clear(
    intersects: AreaOption,
    datetime: opt.Datetime = None,
    tile: opt.Tile = None,
    min_clear: MinClearOption = None,
    method: MadeByOption = None,
    provisional: ProvisionalOption = None,
    sort: SortOption = SORTS[0],
    csv: CsvOption = False,
    out: ChartOption = None,
    keep: KeepOption = True,
    store: opt.Catalog = None,
) -> None:
    """Say when your area was clear: its shares of clear, cloud, shadow and no data, scene by scene.

    Only the blocks of the masks that contain the area are read. No data is what a scene does not see of it.
    """
    from pc_cloudmask.catalog.search import ItemChoice
    from pc_cloudmask.viewing.clear import SCENE_FIELDS, leave_cloudy_out, measure_scenes

    _check_forms(csv=csv, json=options.json)
    target = opt.check_out(out, endings=opt.CHARTS)
    if sort not in SORTS:
        raise SettingsError(f"--sort {sort!r:.40}: {' or '.join(SORTS)}")
    query = opt.read_query(tile, datetime, intersects=intersects)
    choice = ItemChoice(query, None, tuple(method or ()), provisional)
    catalog = open_catalog(store)
    report = measure_scenes(catalog, choice, keep)
    found, report = len(report.scenes), leave_cloudy_out(report, min_clear)
    if target is not None:
        _draw_shares(target, report.scenes)
    if sort == "clear":
        clearest_first = sorted(report.scenes, key=lambda scene: -scene.percentages["clear"])
        report = replace(report, scenes=tuple(clearest_first))
    if csv:
        _print_csv(SCENE_FIELDS, (scene.as_json() for scene in report.scenes))
    else:
        print_json(report.as_json()) if options.json else _print_scenes(report, found, catalog.url)
    name_left_out(report.left_out)


def _draw_shares(out: Path, scenes: Sequence[ClearScene]) -> None:
    from pc_cloudmask.viewing.pictures import draw_clear_chart

    opt.write_out(out, draw_clear_chart("How much of the area was clear", scenes, out.suffix))


def _check_forms(**chosen: bool) -> None:
    """Raise if more than one form of output is requested."""
    names = [f"--{name}" for name, wanted in chosen.items() if wanted]
    if len(names) > 1:
        raise SettingsError(f"{' and '.join(names)} exclude each other: give one of them")


def _print_csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a table of comma-separated values: RFC 4180 except for line ends; unknown values are empty."""
    import csv

    def show(value: Any) -> Any:
        if isinstance(value, bool):
            return str(value).lower()
        return make_printable(value) if isinstance(value, str) else value

    writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: show(value) for name, value in row.items()} for row in rows)
    sys.stdout.flush()


def _print_lines(lines: Iterable[str]) -> None:
    """Print lines for other programs, without anything that a terminal would obey."""
    sys.stdout.writelines(f"{make_printable(line)}\n" for line in lines)
    sys.stdout.flush()  # a reader that has gone is noticed here, where it is no error


_WORDS = frozenset({"TILE", "DATETIME", "METHOD", "ID"})


def _print_columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of any length at once, as wide as it is; columns not in ``_WORDS`` are numbers.

    Lines are never wrapped, so that they can be cut and searched; rich takes a millisecond per row.
    """
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    align = [str.ljust if name in _WORDS else str.rjust for name in names]
    _print_lines(
        "  ".join(put(cell, width) for put, cell, width in zip(align, row, widths, strict=True)).rstrip()
        for row in (names, *rows)
    )


def _show_share(percentage: float | None) -> str:
    """Return a percentage with one decimal, or ``-`` if there is none."""
    return "-" if percentage is None else f"{percentage:.1f}"


def _show_moment(text: str | None) -> str:
    """Return an RFC 3339 time as ``2018-12-14 13:32``."""
    return "-" if text is None else text[:16].replace("T", " ")


def _print_items(items: Sequence[ListedItem], where: str) -> None:
    names = ("TILE", "DATETIME", "CLEAR", "CLOUD", "SHADOW", "NO DATA", "METHOD", "ID")
    rows = [
        (
            *(each.tile, _show_moment(each.datetime), _show_share(each.clear_percentage)),
            *map(_show_share, (each.cloud_percentage, each.shadow_percentage, each.nodata_percentage)),
            f"{each.method or '-'}{' (provisional)' * each.provisional}",
            each.id,
        )
        for each in items
    ]
    _print_columns(names, rows)
    if items:
        tiles = len({each.tile for each in items})
        say(
            f"{count(len(items), 'item')} of {count(tiles, 'tile')}; shares are percentages of the valid pixels"
        )
    else:
        say(f"nothing that is published in {where} matches; cloudmask status shows what is there")


def _print_scenes(report: AreaReport, found: int, where: str) -> None:
    names = ("DATETIME", "TILE", "CLEAR", "CLOUD", "SHADOW", "NO DATA", "ID")
    rows = [
        (
            *(_show_moment(scene.item.datetime), scene.item.tile),
            *map(_show_share, scene.percentages.values()),
            scene.item.id,
        )
        for scene in report.scenes
    ]
    _print_columns(names, rows)
    if not found:
        say(f"no scene that is published in {where} sees the area then; cloudmask ls lists what is there")
        return
    shown = "" if found == len(rows) else f" of {found}"
    say(f"{count(len(rows), 'scene')}{shown}; shares are percentages of the area")
    read = f"{report.bytes_read / 1e6:.1f} of {report.mask_bytes / 1e6:.1f} MB read in {report.requests} requests"
    kept = f"; {report.kept} known from before" if report.kept else ""
    say(f"{count(report.masks, 'mask')}: {read}{kept}")


@app.command()
def follow(
    since: Annotated[
        str | None,
        opt.value(
            "TIME|ID|CURSOR",
            "Begin at a day or instant, or resume after an event's id or cursor; default: now.",
        ),
    ] = None,
    once: Annotated[bool, opt.flag("--once", "Print what is there, and end.")] = False,
    every: Annotated[str | None, opt.value("TIME", "Look every 10s, 30s, 5m …; default: 30s.")] = None,
    store: opt.Catalog = None,
) -> None:
    """Print what is published, replaced and withdrawn, as it is recorded, until interrupted.

    With --json, or when output is redirected or piped, each line is a CloudEvent with its cursor.
    """
    from pc_cloudmask.viewing.follow import PAUSE_S, FeedReader

    period = opt.read_period(once, every if once or every else f"{PAUSE_S:g}s")
    feed = FeedReader(open_catalog(store), since)
    events = feed.read_new() if period is None else feed.follow(period.total_seconds(), complain)
    as_json = options.json or not sys.stdout.isatty()
    for event in events:
        print_json(event, indent=None) if as_json else say(_describe_event(event))
    complain(f"to go on from here: --since {feed.place}")


def _describe_event(event: Event) -> str:
    """Return a line for people: when, what, and for which scene."""
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    clear = data.get("clear_percentage")
    what = str(event["type"]).rpartition(".")[2]
    parts = (
        _show_moment(event["time"]),
        f"{what:<9}",
        str(data.get("tile") or "-"),
        f"{_show_share(clear if isinstance(clear, int | float) else None):>5} % clear",
        event["subject"],
    )
    return "  ".join(parts)
