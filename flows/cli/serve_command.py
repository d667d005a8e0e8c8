"""The `serve` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flows.cli.app import app, load_settings, options


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    store: Annotated[str | None, typer.Option(metavar="DIR", help="The catalog's directory.")] = None,
    browser: Annotated[
        str | None, typer.Option(metavar="DIR", help="A built STAC Browser; default: ./stac-browser.")
    ] = None,
) -> None:
    """Serve the catalog over HTTP, with CORS and byte ranges, and STAC Browser on the same port."""
    from flows.cli.output import print_json, say
    from flows.errors import SettingsError
    from flows.serving.folder import find_folder
    from flows.serving.stac_browser import HOSTED_URL, HOW_TO_GET_IT, find_stac_browser

    try:
        from flows.serving.server import CatalogServer
    except ImportError as error:
        raise SettingsError("serve needs starlette and uvicorn: pip install 'pc-cloudmask[serve]'") from error

    settings = load_settings(store=store, browser=browser)
    built = find_stac_browser(settings.browser)
    with CatalogServer(find_folder(settings), built, host, port) as server:
        catalog = f"{server.url}/catalog.json"
        if options.json:
            print_json(
                {"url": server.url, "catalog": catalog, "browser": f"{server.url}/" if built else None}
            )
            sys.stdout.flush()
        else:
            say(f"catalog       {catalog}")
            say(f"STAC Browser  {server.url}/" if built else f"STAC Browser  {HOSTED_URL}{catalog}")
            if not built:
                say(f"              ({HOW_TO_GET_IT})")
            say("Ctrl-C ends it")
        server.run()
