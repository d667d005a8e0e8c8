"""Commands that publish: `demo`, `ingest` and `retry`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import EXIT_FAILED, app, complain, options
from flows.cli.shared_options import BboxOption, DatetimeOption, StoreOption, TileOption

METHODS = "s2cloudless, cloud-score-plus or csmask"


@app.command()
def ingest(
    bbox: BboxOption = None,
    intersects: Annotated[Path | None, typer.Option(metavar="FILE", help="GeoJSON geometry.")] = None,
    tile: TileOption = None,
    datetime: DatetimeOption = None,
    ids: Annotated[list[str] | None, typer.Option(metavar="ID…", help="Item ids.")] = None,
    items: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="ItemCollection, folder or static catalog, no search."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many scenes.")] = None,
    method: Annotated[str | None, typer.Option(help=METHODS)] = None,
    compute: Annotated[
        str | None, typer.Option(help="Where Earth Engine's inputs become a mask: local, server.")
    ] = None,
    store: StoreOption = None,
    keep_inputs: Annotated[
        bool | None, typer.Option("--keep-inputs", help="Publish the cloud probability too.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be published; write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Publish again what is published already.")] = False,
) -> None:
    """Publish the masks of the scenes that match."""
    from flows.cli.jobs import check_reachable, finish, name_missing, run_ingest
    from flows.request import IngestRequest

    request = IngestRequest(
        bbox=bbox,
        intersects=intersects,
        tiles=tuple(tile or ()),
        datetime=datetime,
        ids=tuple(ids or ()),
        items=items,
        limit=limit,
        method=method,
        compute=compute,
        store=store,
        keep_inputs=keep_inputs,
        force=force,
        config=options.config,
    )
    if dry_run:
        from flows.cli.output import print_json, print_plan
        from flows.plan import plan_ingest

        check_reachable(request, request.read_query())
        plan = plan_ingest(request)
        name_missing(request, plan.ids)
        print_json(plan.as_json()) if options.json else print_plan(plan)
        if plan.failed:
            raise typer.Exit(EXIT_FAILED)
    else:
        report = run_ingest(request)
        name_missing(request, report.ids)
        finish(report)


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the catalog goes; default ./out.")
    ] = None,
) -> None:
    """Run the main job on the bundled sample archive and score it against its known truth."""
    from flows.cli.jobs import finish, run_ingest
    from flows.cli.output import print_scores
    from flows.demo import build_demo_request, score_demo

    request = build_demo_request(options.config, out)
    report = run_ingest(request)
    scores = score_demo(request)
    catalog = f"{request.store}/catalog.json"
    if not options.json:
        print_scores(scores, catalog)
    finish(report, scores=[score.as_json() for score in scores], catalog=catalog)


@app.command()
def retry(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]…", help="Scenes; default: all of them.")
    ] = None,
    items: Annotated[
        str | None, typer.Option(metavar="FILE|URL", help="Where the items are; default: the source API.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Try scenes again that failed or wait, whether it is time or not."""
    from flows.cli.jobs import finish, name_missing, run_ingest
    from flows.outcomes import find_remembered
    from flows.report import Report
    from flows.request import IngestRequest
    from flows.wiring import Wiring

    request = IngestRequest(items=items, store=store, config=options.config)
    remembered = find_remembered(Wiring(request.read_settings()).store)
    wanted = tuple(sorted(remembered.intersection(ids) if ids else remembered))
    if unknown := sorted(set(ids or ()) - remembered):
        complain(f"neither waiting nor failed: {', '.join(unknown)}")
    if not wanted and not options.json:
        typer.echo("nothing waits or failed" if not ids else "none of these waits or failed")
        return
    request = request.model_copy(update={"ids": wanted})
    report = run_ingest(request) if wanted else Report()
    name_missing(request, report.ids)
    finish(report)
