"""The `mosaic` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.app import app, load_settings, options
from flows.cli.shared_options import BboxOption, CatalogOption, DatetimeOption, FilesOption, TileOption

if TYPE_CHECKING:
    from flows.mosaic.mosaic import MosaicReport, Progress
    from flows.mosaic.plan import MosaicPlan

REDUCERS = ("median", "least-cloudy", "most-recent-clear")
TRUE_COLOUR = "B04,B03,B02"


@app.command()
def mosaic(
    out: Annotated[Path, typer.Option(metavar="FILE.tif", help="The COG; picture and item go beside it.")],
    bbox: BboxOption = None,
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    bands: Annotated[str, typer.Option(metavar="BAND,…", help="Reflectances, B01 to B12.")] = TRUE_COLOUR,
    reducer: Annotated[str, typer.Option(help=" | ".join(REDUCERS))] = REDUCERS[0],
    max_cloud: Annotated[
        float | None,
        typer.Option(min=0, max=100, metavar="PCT", help="Leave out scenes with more cloud and shadow."),
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(metavar="M", help="Pixel size in metres; default: of the finest band.")
    ] = None,
    crs: Annotated[
        str | None, typer.Option(metavar="EPSG:n", help="In metres; default: the most frequent UTM zone.")
    ] = None,
    plain_median: Annotated[
        bool, typer.Option("--plain-median", help="Make the median of all observations too, to compare.")
    ] = False,
    truth: Annotated[
        str | None,
        typer.Option(metavar="ASSET", help="Count what is left of this asset's clouds (the demo's: truth)."),
    ] = None,
    files: FilesOption = None,
    store: CatalogOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read and made; write nothing.")
    ] = False,
) -> None:
    """Make a cloudless composite from published masks and the bands that they belong to."""
    from flows.adapters.stores import open_reader
    from flows.cli.output import print_json
    from flows.errors import SettingsError
    from flows.scene.query import build_query

    if reducer not in REDUCERS:
        raise SettingsError(f"--reducer {reducer!r:.40}: choose one of {', '.join(REDUCERS)}")
    query = build_query(bbox=bbox, tiles=tile or (), datetime=datetime)
    if query.is_open:
        raise SettingsError("name where: --bbox or --tile")
    _check_extra()
    from flows.mosaic.mosaic import build_mosaic
    from flows.mosaic.plan import MosaicRequest, plan_mosaic
    from flows.mosaic.reducers import Reducer

    request = MosaicRequest(
        out=out,
        query=query,
        bands=tuple(bands.split(",")),
        reducer=Reducer(reducer),
        crs=crs,
        pixel_size_m=resolution,
        max_cloud_pct=max_cloud,
        plain_median=plain_median,
        truth=truth,
        files=files,
    )
    settings = load_settings()
    catalog = open_reader(store or settings.store)
    plan = plan_mosaic(catalog, request)
    if dry_run:
        print_json(plan.as_json()) if options.json else _print_plan(plan)
        return
    with _show_progress() as progress:
        report = build_mosaic(catalog, settings, request, plan, progress)
    print_json(report.as_json()) if options.json else _print_report(report)


def _check_extra() -> None:
    from importlib.util import find_spec

    from flows.errors import SettingsError

    if not all(find_spec(name) for name in ("odc", "dask", "xarray")):
        raise SettingsError("mosaic needs odc-stac and dask: pip install 'pc-cloudmask[mosaic]'")


@contextmanager
def _show_progress() -> Iterator[Progress]:
    """A bar on stderr, on a terminal only."""
    from rich.progress import Progress as Bars

    from flows.cli.output import stderr

    with Bars(console=stderr, disable=not stderr.is_terminal, transient=True) as bars:
        task = bars.add_task("blocks", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _describe_plan(plan: MosaicPlan) -> str:
    """Scenes and grid in one line."""
    (height, width), count = plan.grid.shape, len(plan.observations)
    scenes = f"{count} scene{'s' * (count > 1)}"
    return f"{scenes} on {width} x {height} pixels of {plan.grid.pixel_size_m:g} m, {plan.grid.crs}"


def _print_plan(plan: MosaicPlan) -> None:
    from flows.cli.output import say

    for item_id in sorted(observation.id for observation in plan.observations):
        say(item_id)
    say(f"{_describe_plan(plan)}; nothing was written")


def _print_report(report: MosaicReport) -> None:
    from flows.cli.output import say

    lines = [_describe_plan(report.plan), f"{report.filled_pct:.1f} % filled, in {report.seconds:.1f} s"]
    if report.has_truth:
        lines.append(f"cloud and shadow left: {report.mosaic.residual_pct:.2f} % of the filled pixels")
        if report.plain:
            lines[-1] += f"; in the plain median: {report.plain.residual_pct:.2f} %"
    lines.append(f"mosaic: {report.files.raster}")
    for line in lines:
        say(line)
