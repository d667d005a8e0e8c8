"""The command that proves a scene against the live services: `prove`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from pc_cloudmask.cli.app import EXIT_FAILED, EXIT_USAGE, app, complain, load_settings, options
from pc_cloudmask.cli.options import ItemsOption

ItemOption = Annotated[
    str | None,
    typer.Option(metavar="ID|URL", help="The item; default: the scene of the article that started this."),
]


@app.command()
def prove(item: ItemOption = None, items: ItemsOption = None) -> None:
    """Compare a scene's mask made here with Earth Engine's and the tutorial's own, on the live services.

    Also reads its assets, and publishes into a temporary folder that is removed. A full tile costs about 13 requests
    and 92 MB of pixels of Earth Engine, a few MB of assets, 0.5 GB of memory here. Exit status 1 if anything differs.
    """
    from pc_cloudmask.cli.output import print_json, say
    from pc_cloudmask.prove.proof import METHOD
    from pc_cloudmask.prove.proof import prove as run_proof
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.scene.query import parse_ids

    item_id = None if item is None else parse_ids(item, "--item")[0]
    context = RunContext(load_settings(method=METHOD, compute="local"), items, read_only=True)
    with closing(context.session):
        found = run_proof(context, item_id)
    if options.json:
        print_json(found.as_json())
    else:
        for line in found.list_lines():
            say(line)
    if found.fault is not None:
        complain(found.fault)
        raise typer.Exit(EXIT_USAGE)
    if not found.holds:
        raise typer.Exit(EXIT_FAILED)
