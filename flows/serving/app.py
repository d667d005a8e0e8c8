"""The web application."""

from __future__ import annotations

import logging
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from flows.serving.catalog_files import ABSENT, CatalogFiles
from flows.serving.stac_browser import CONFIG_NAME, StacBrowser
from flows.stac.layout import CATALOG_KEY

logger = logging.getLogger(__name__)
_EXPOSED = ("Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "ETag", "Last-Modified")
"""Headers that scripts of other pages may read: what geotiff.js needs to read a COG by ranges."""


def build_app(root: Path, browser: StacBrowser | None = None) -> Starlette:
    """An application that serves the catalog in ``root`` to any page, and ``browser`` at ``/``.

    Without a browser ``/`` leads to the catalog's root document.
    """

    def front(_: Request) -> Response:
        if browser is None:
            return RedirectResponse(f"/{CATALOG_KEY}")
        return HTMLResponse(browser.page, headers={"cache-control": "no-cache"})

    def config(_: Request) -> Response:
        return Response(StacBrowser.config_script(), media_type="text/javascript")

    def icon(_: Request) -> Response:
        return Response(status_code=204)

    routes: list[Route | Mount] = [Route("/", front), Route("/favicon.ico", icon)]
    if browser is not None:
        routes += [Route("/index.html", front), Route(f"/{CONFIG_NAME}", config)]
    routes.append(Mount("/", CatalogFiles(root, browser.folder if browser else None)))
    cors = Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "HEAD"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=_EXPOSED,
    )
    return Starlette(routes=routes, middleware=[cors], exception_handlers={OSError: _answer_error})


def _answer_error(_: Request, error: Exception) -> Response:
    """A file that is gone meanwhile, or may not be read, is not there; of one that fails nothing is known."""
    if isinstance(error, OSError) and error.errno in ABSENT:
        return PlainTextResponse("Not Found", 404)
    logger.warning("cannot read a file: %s", error)
    return PlainTextResponse("The file cannot be read at the moment", 503)
