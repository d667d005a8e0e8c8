"""Commands that look at published masks: `view` and `stats`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, app, complain, load_settings, options
from pc_cloudmask.cli.options import (
    CHARTS,
    BboxOption,
    CatalogOption,
    DatetimeOption,
    FilesOption,
    ItemArgument,
    TileOption,
    check_out,
    complete_names,
    read_item_name,
    write_out,
)
from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.version import tell_extra

if TYPE_CHECKING:
    from pc_cloudmask.mosaic.mosaic import MosaicReport, Progress
    from pc_cloudmask.mosaic.plan import MosaicPlan


@app.command()
def view(
    item: ItemArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Default: the item's id, in this folder.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, max=10980, help="Length of the longer edge, at most, in pixels.")
    ] = 1098,
    files: FilesOption = None,
    store: CatalogOption = None,
) -> None:
    """Draw a scene in true colour, with its clouds and shadows outlined."""
    from pc_cloudmask.cli.output import print_json, say
    from pc_cloudmask.viewing.library import find_item
    from pc_cloudmask.viewing.view import draw_view

    target = None if out is None else check_out(out)
    found = find_item(read_item_name(item), store=store or load_settings().store)
    target = target or check_out(Path(f"{found.id}.png"))
    drawn = draw_view(found, size, files)
    write_out(target, drawn.png)
    names = ("cloud", "shadow", "clear")
    shares = {f"{name}_percentage": found.properties.get(f"cloudmask:{name}_percentage") for name in names}
    if options.json:
        print_json({"id": found.id, "out": str(target), "shape": list(drawn.shape), **shares})
    else:
        told = ", ".join(
            f"{share:.1f} % {name}"
            for name, share in zip(names, shares.values(), strict=True)
            if share is not None
        )
        height, width = drawn.shape
        say(f"{target}: {width} x {height} pixels; {told}")


@app.command()
def stats(
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    max_cloud: Annotated[
        float,
        typer.Option(
            min=0, max=100, metavar="PCT", help="Cloud and shadow that a cloud-free scene may have."
        ),
    ] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png|svg", help="Draw the calendar as a picture too."),
    ] = None,
    store: CatalogOption = None,
) -> None:
    """Count cloud-free scenes by tile and month."""
    from pc_cloudmask.catalog.search import find_published_items
    from pc_cloudmask.cli.output import build_rows, print_calendar, print_json
    from pc_cloudmask.scene.query import build_query
    from pc_cloudmask.storage.stores import open_reader
    from pc_cloudmask.viewing.observations import count_observations, draw_calendar

    target = None if out is None else check_out(out, endings=CHARTS)
    query = build_query(tiles=tile or (), datetime=datetime)
    broken: dict[str, CloudmaskError] = {}
    items = find_published_items(open_reader(store or load_settings().store), query, broken=broken)
    months = count_observations(items, max_cloud)
    title = f"Scenes with at most {max_cloud:g} % cloud and shadow, of all scenes"
    if target is not None:
        write_out(target, draw_calendar(title, build_rows(months), target.suffix))
    if options.json:
        print_json({"max_cloud_pct": max_cloud, "months": [month.as_json() for month in months]})
    else:
        print_calendar(title, months)
    for item_id, error in sorted(broken.items()):
        complain(f"not counted: {item_id}: {error}")
    if broken:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    store: Annotated[str | None, typer.Option(metavar="DIR", help="The catalog's directory.")] = None,
    browser: Annotated[
        str | None, typer.Option(metavar="DIR", help="A built STAC Browser; default: ./stac-browser.")
    ] = None,
    build_browser: Annotated[
        bool,
        typer.Option("--build-browser", help="Build STAC Browser with npm, once; later calls find it."),
    ] = False,
) -> None:
    """Serve the catalog over HTTP, with CORS and byte ranges, and a page that shows it, or STAC Browser."""
    from pc_cloudmask.viewing.server import find_folder
    from pc_cloudmask.viewing.stac_browser import build_browser as build
    from pc_cloudmask.viewing.stac_browser import find_stac_browser

    try:
        from pc_cloudmask.viewing.server import CatalogServer
    except ImportError as error:
        raise SettingsError(f"serve needs starlette and uvicorn: {tell_extra('serve')}") from error

    settings = load_settings(store=store, browser=browser)
    root = find_folder(settings)
    folder = build(settings.browser, complain) if build_browser else settings.browser
    built = find_stac_browser(folder)
    with CatalogServer(root, built, host, port) as server:
        catalog = f"{server.url}/catalog.json"
        _tell_where(server.url, catalog, with_browser=built is not None)
        server.run()


def _tell_where(url: str, catalog: str, *, with_browser: bool) -> None:
    """Say where the catalog is served, and how to look at it."""
    from pc_cloudmask.cli.output import print_json, say
    from pc_cloudmask.viewing.stac_browser import HOSTED_URL, HOW_TO_GET_IT

    if options.json:
        page = f"{url}/"
        print_json({"url": url, "catalog": catalog, "page": page, "browser": page if with_browser else None})
        sys.stdout.flush()
        return
    say(f"catalog       {catalog}")
    say(f"{'STAC Browser' if with_browser else 'page':13} {url}/")
    if not with_browser:
        say(f"STAC Browser  {HOSTED_URL}{catalog}")
        say(f"              ({HOW_TO_GET_IT})")
    say("Ctrl-C ends it")


def _list_bands() -> list[str]:
    from pc_cloudmask.mosaic.compose import BAND_PIXEL_SIZES_M

    return sorted(BAND_PIXEL_SIZES_M)


REDUCERS = ("median", "least-cloudy", "most-recent-clear")
OutOption = Annotated[Path, typer.Option(metavar="FILE.tif", help="The COG; picture and item go next to it.")]
BandsOption = Annotated[
    str,
    typer.Option(
        metavar="BAND,…", help="Reflectances, B01 to B12.", autocompletion=complete_names(_list_bands)
    ),
]
ReducerOption = Annotated[
    str, typer.Option(help=" | ".join(REDUCERS), autocompletion=complete_names(lambda: REDUCERS))
]
MaxCloudOption = Annotated[
    float | None,
    typer.Option(min=0, max=100, metavar="PCT", help="Leave out scenes with more cloud and shadow."),
]
ResolutionOption = Annotated[
    float | None, typer.Option(metavar="M", help="Pixel size in metres; default: of the finest band.")
]
CrsOption = Annotated[
    str | None, typer.Option(metavar="EPSG:n", help="In metres; default: the most frequent UTM zone.")
]
PlainMedianOption = Annotated[
    bool, typer.Option("--plain-median", help="Make the median of all observations too, to compare.")
]
TruthOption = Annotated[
    str | None,
    typer.Option(metavar="ASSET", help="Count what is left of this asset's clouds (the demo's: truth)."),
]
MosaicDryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be read and made; write nothing.")
]


@app.command()
def mosaic(
    out: OutOption,
    bbox: BboxOption = None,
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    bands: BandsOption = "B04,B03,B02",
    reducer: ReducerOption = REDUCERS[0],
    max_cloud: MaxCloudOption = None,
    resolution: ResolutionOption = None,
    crs: CrsOption = None,
    plain_median: PlainMedianOption = False,
    truth: TruthOption = None,
    files: FilesOption = None,
    store: CatalogOption = None,
    dry_run: MosaicDryRunOption = False,
) -> None:
    """Make a cloudless composite from published masks and the bands that they belong to."""
    _check_extra()
    from pc_cloudmask.cli.output import print_json
    from pc_cloudmask.mosaic.compose import Reducer
    from pc_cloudmask.mosaic.mosaic import build_mosaic
    from pc_cloudmask.mosaic.plan import MosaicRequest, plan_mosaic
    from pc_cloudmask.scene.query import build_query
    from pc_cloudmask.storage.stores import open_reader

    query = build_query(bbox=bbox, tiles=tile or (), datetime=datetime)
    how = (tuple(bands.split(",")), Reducer(reducer), crs, resolution, max_cloud, plain_median, truth, files)
    request, settings = MosaicRequest(out, query, *how), load_settings()
    catalog = open_reader(store or settings.store)
    plan = plan_mosaic(catalog, request)
    if dry_run:
        print_json(plan.as_json()) if options.json else _print_plan(plan)
    else:
        with _show_progress() as progress:
            report = build_mosaic(catalog, settings, request, plan, progress)
        print_json(report.as_json()) if options.json else _print_report(report)
        plan = report.plan
    _name_left_out(plan)


def _name_left_out(plan: MosaicPlan) -> None:
    """Name on stderr the scenes that could not be used; exit with status 1 if there are any."""
    for item_id, error in sorted(plan.left_out.items()):
        text = str(error).removeprefix(f"item {item_id}: ")
        complain(f"left out: {item_id}: {text}")
    if plan.left_out:
        raise typer.Exit(EXIT_FAILED)


def _check_extra() -> None:
    from importlib.util import find_spec

    if not all(find_spec(name) for name in ("odc", "dask", "xarray")):
        raise SettingsError(f"mosaic needs odc-stac and dask: {tell_extra('mosaic')}")


@contextmanager
def _show_progress() -> Iterator[Progress]:
    """Show a bar on stderr, on a terminal only."""
    from rich.progress import Progress as Bars

    from pc_cloudmask.cli.output import stderr

    with Bars(console=stderr, disable=not stderr.is_terminal, transient=True) as bars:
        task = bars.add_task("blocks", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _describe_plan(plan: MosaicPlan) -> str:
    """Return the scenes and the grid in one line."""
    (height, width), count = plan.grid.shape, len(plan.observations)
    scenes = f"{count} scene{'s' * (count > 1)}"
    return f"{scenes} on {width} x {height} pixels of {plan.grid.pixel_size_m:g} m, {plan.grid.crs}"


def _print_plan(plan: MosaicPlan) -> None:
    from pc_cloudmask.cli.output import say

    for item_id in sorted(observation.id for observation in plan.observations):
        say(item_id)
    say(f"{_describe_plan(plan)}; nothing was written")


def _print_report(report: MosaicReport) -> None:
    from pc_cloudmask.cli.output import say

    lines = [_describe_plan(report.plan), f"{report.filled_pct:.1f} % filled, in {report.seconds:.1f} s"]
    if report.has_truth:
        lines.append(f"cloud and shadow left: {report.mosaic.residual_pct:.2f} % of the filled pixels")
        if report.plain:
            lines[-1] += f"; in the plain median: {report.plain.residual_pct:.2f} %"
    lines.append(f"mosaic: {report.files.raster}")
    for line in lines:
        say(line)
