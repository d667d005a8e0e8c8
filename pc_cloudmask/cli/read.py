"""Commands that look at published masks: `view`, `stats`, `serve` and `mosaic`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli import options as opt
from pc_cloudmask.cli.app import (
    app,
    complain,
    count,
    load_settings,
    name_left_out,
    open_catalog,
    options,
    print_json,
    say,
)
from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.version import tell_extra

if TYPE_CHECKING:
    from pc_cloudmask.mosaic.mosaic import MosaicReport, Progress
    from pc_cloudmask.mosaic.plan import MosaicPlan


@app.command()
def view(
    item: opt.ItemWords,
    out: Annotated[Path | None, opt.value("FILE.png", "Default: the item's id, in this folder.")] = None,
    size: Annotated[
        int, typer.Option(min=16, max=10980, help="Length of the longer edge, at most, in pixels.")
    ] = 1098,
    files: opt.Files = None,
    store: opt.Catalog = None,
) -> None:
    """Draw a scene in true colour, with its clouds and shadows outlined."""
    from pc_cloudmask.viewing.library import find_item
    from pc_cloudmask.viewing.pictures import draw_view

    target = opt.check_out(out)
    found = find_item(opt.read_item_name(item), store=store or load_settings().store)
    target = target or opt.check_out(Path(f"{found.id}.png"))
    drawn = draw_view(found, size, files)
    opt.write_out(target, drawn.png)
    names = ("cloud", "shadow", "clear")
    shares = {name: found.properties.get(f"cloudmask:{name}_percentage") for name in names}
    if options.json:
        percentages = {f"{name}_percentage": share for name, share in shares.items()}
        print_json({"id": found.id, "out": str(target), "shape": list(drawn.shape), **percentages})
    else:
        told = ", ".join(f"{share:.1f} % {name}" for name, share in shares.items() if share is not None)
        height, width = drawn.shape
        say(f"{target}: {width} x {height} pixels; {told}")


@app.command()
def stats(
    tile: opt.Tile = None,
    datetime: opt.Datetime = None,
    max_cloud: Annotated[
        float, opt.value("PCT", "Cloud and shadow that a cloud-free scene may have.", min=0, max=100)
    ] = 20.0,
    out: Annotated[Path | None, opt.value("FILE.png|svg", "Draw the calendar as a picture too.")] = None,
    store: opt.Catalog = None,
) -> None:
    """Count cloud-free scenes by tile and month."""
    from pc_cloudmask.catalog.search import find_published_items
    from pc_cloudmask.cli.output import print_calendar
    from pc_cloudmask.viewing.library import count_observations

    target = opt.check_out(out, endings=opt.CHARTS)
    query = opt.read_query(tile, datetime)
    broken: dict[str, CloudmaskError] = {}
    items = find_published_items(open_catalog(store), query, broken=broken)
    months = count_observations(items, max_cloud)
    title = f"Scenes with at most {max_cloud:g} % cloud and shadow, of all scenes"
    if target is not None:
        from pc_cloudmask.viewing.pictures import draw_calendar

        opt.write_out(target, draw_calendar(title, months, target.suffix))
    if options.json:
        print_json({"max_cloud_pct": max_cloud, "months": [month.as_json() for month in months]})
    else:
        print_calendar(title, months)
    name_left_out(broken, "not counted")


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    store: Annotated[str | None, opt.value("DIR", "The catalog's directory.")] = None,
    browser: Annotated[str | None, opt.value("DIR", "A built STAC Browser; default: ./stac-browser.")] = None,
    build_browser: Annotated[
        bool,
        opt.flag("--build-browser", "Build STAC Browser with npm, once; later calls find it."),
    ] = False,
) -> None:
    """Serve the catalog over HTTP, with CORS and byte ranges, and a page that shows it, or STAC Browser."""
    from pc_cloudmask.viewing import stac_browser

    try:
        from pc_cloudmask.viewing.server import CatalogServer, find_folder
    except ImportError as error:
        raise SettingsError(f"serve needs starlette and uvicorn: {tell_extra('serve')}") from error

    settings = load_settings(store=store, browser=browser)
    root = find_folder(settings)
    folder = settings.browser
    if build_browser:
        folder = stac_browser.build_browser(folder, complain)
    built = stac_browser.find_stac_browser(folder)
    with CatalogServer(root, built, host, port) as server:
        catalog, page = f"{server.url}/catalog.json", f"{server.url}/"
        if options.json:
            print_json(
                {"url": server.url, "catalog": catalog, "page": page, "browser": page if built else None}
            )
        else:
            say(f"catalog       {catalog}")
            say(f"{'STAC Browser' if built else 'page':13} {page}")
            if not built:
                say(f"STAC Browser  {stac_browser.HOSTED_URL}{catalog}")
                say(f"              ({stac_browser.HOW_TO_GET_IT})")
            say("Ctrl-C ends it")
        server.run()


def _list_bands(_: object) -> list[str]:
    from pc_cloudmask.mosaic.compose import BAND_PIXEL_SIZES_M

    return sorted(BAND_PIXEL_SIZES_M)


REDUCERS = ("median", "least-cloudy", "most-recent-clear")
OutOption = Annotated[Path, opt.value("FILE.tif", "The COG; picture and item go next to it.")]
BandsOption = Annotated[
    str, opt.value("BAND,…", "Reflectances, B01 to B12.", autocompletion=opt.complete_names(_list_bands))
]
ReducerOption = Annotated[
    str, typer.Option(help=" | ".join(REDUCERS), autocompletion=opt.complete_names(lambda _: REDUCERS))
]
MaxCloudOption = Annotated[
    float | None, opt.value("PCT", "Leave out scenes with more cloud and shadow.", min=0, max=100)
]
ResolutionOption = Annotated[
    float | None, opt.value("M", "Pixel size in metres; default: of the finest band.")
]
CrsOption = Annotated[str | None, opt.value("EPSG:n", "In metres; default: the most frequent UTM zone.")]
PlainMedianOption = Annotated[
    bool, opt.flag("--plain-median", "Make the median of all observations too, to compare.")
]
TruthOption = Annotated[
    str | None, opt.value("ASSET", "Count what is left of this asset's clouds (the demo's: truth).")
]
DryRunOption = Annotated[bool, opt.flag("--dry-run", "Say what would be read and made; write nothing.")]


@app.command()
def mosaic(
    out: OutOption,
    bbox: opt.Bbox = None,
    tile: opt.Tile = None,
    datetime: opt.Datetime = None,
    bands: BandsOption = "B04,B03,B02",
    reducer: ReducerOption = REDUCERS[0],
    max_cloud: MaxCloudOption = None,
    resolution: ResolutionOption = None,
    crs: CrsOption = None,
    plain_median: PlainMedianOption = False,
    truth: TruthOption = None,
    files: opt.Files = None,
    store: opt.Catalog = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make a cloudless composite from published masks and the bands that they belong to."""
    if not all(find_spec(name) for name in ("odc", "dask", "xarray")):
        raise SettingsError(f"mosaic needs odc-stac and dask: {tell_extra('mosaic')}")
    from pc_cloudmask.mosaic.compose import Reducer
    from pc_cloudmask.mosaic.mosaic import build_mosaic
    from pc_cloudmask.mosaic.plan import MosaicRequest, plan_mosaic

    query = opt.read_query(tile, datetime, bbox)
    how = (tuple(bands.split(",")), Reducer(reducer), crs, resolution, max_cloud, plain_median, truth, files)
    request, settings = MosaicRequest(out, query, *how), load_settings()
    catalog = open_catalog(store)
    plan = plan_mosaic(catalog, request)
    if dry_run:
        print_json(plan.as_json()) if options.json else _print_plan(plan)
    else:
        with _show_progress() as progress:
            report = build_mosaic(catalog, settings, request, plan, progress)
        print_json(report.as_json()) if options.json else _print_report(report)
        plan = report.plan
    name_left_out(plan.left_out)


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
    height, width = plan.grid.shape
    scenes = count(len(plan.observations), "scene")
    return f"{scenes} on {width} x {height} pixels of {plan.grid.pixel_size_m:g} m, {plan.grid.crs}"


def _print_plan(plan: MosaicPlan) -> None:
    for item_id in sorted(observation.id for observation in plan.observations):
        say(item_id)
    say(f"{_describe_plan(plan)}; nothing was written")


def _print_report(report: MosaicReport) -> None:
    lines = [_describe_plan(report.plan), f"{report.filled_pct:.1f} % filled, in {report.seconds:.1f} s"]
    if report.has_truth:
        lines.append(f"cloud and shadow left: {report.mosaic.residual_pct:.2f} % of the filled pixels")
        if report.plain:
            lines[-1] += f"; in the plain median: {report.plain.residual_pct:.2f} %"
    lines.append(f"mosaic: {report.files.raster}")
    for line in lines:
        say(line)
