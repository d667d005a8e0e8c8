"""The web server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Self

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from pc_cloudmask.catalog.documents import PARQUET_MEDIA_TYPE
from pc_cloudmask.catalog.fields import COG_MEDIA_TYPE, GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import (
    ASSET_NAME_FORM,
    CATALOG_KEY,
    COLLECTION_ID,
    COLLECTION_KEY,
    ITEMS_PREFIX,
)
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.settings import Settings
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.stores import open_reader
from pc_cloudmask.viewing.stac_browser import CONFIG_NAME, HOSTED_URL, StacBrowser

_ID = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_BAND, _TILE = r"\d{2}[A-Z]", r"\d{2}[A-Z]{3}"
_ITEM_FOLDER = rf"{_BAND}/{_TILE}/\d{{4}}/(?P<item>{_ID})"
_ITEM_DOCUMENT = rf"(?:(?P=item)|withdrawn|superseded-by-{_ID})\.json"
#: Keys of the published layout, marks of withdrawn and superseded items among them; `deploy/nginx/nginx.conf`
#: has the same list. The last line is the archive that `cloudmask demo` puts into its store, whose bands
#: its items link.
_PUBLIC_KEY = re.compile(
    rf"{re.escape(CATALOG_KEY)}"
    rf"|{re.escape(COLLECTION_KEY)}"
    rf"|{COLLECTION_ID}/{_BAND}/(?:{_TILE}/(?:\d{{4}}/)?)?{re.escape(CATALOG_KEY)}"
    rf"|{COLLECTION_ID}/{_ITEM_FOLDER}/(?:{_ITEM_DOCUMENT}|{ASSET_NAME_FORM.pattern})"
    rf"|{ITEMS_PREFIX}{_ID}\.parquet"
    rf"|sample-archive/(?:items\.json|{_ID}/{_ID}\.(?:json|tif))",
    re.ASCII,
)
#: What a build of STAC Browser 4 or 5 consists of: pages, scripts, styles, pictures, fonts. It may stand in
#: the store's folder, whose state is JSON.
_BROWSER_FILE = re.compile(
    r"(?:[^/._][^/]*/)*[^/.][^/]*\."
    r"(?:html|js|mjs|css|map|webmanifest|png|jpe?g|gif|svg|webp|ico|woff2?|ttf|wasm)"
)


def is_public_key(key: str) -> bool:
    """Return whether ``key`` is one that the published layout has."""
    return _PUBLIC_KEY.fullmatch(key) is not None


def is_browser_file(name: str) -> bool:
    """Return whether ``name``, a path below the folder of a build, is one that STAC Browser may have."""
    return _BROWSER_FILE.fullmatch(name) is not None


_MEDIA_TYPES = {".tif": COG_MEDIA_TYPE, ".parquet": PARQUET_MEDIA_TYPE}
#: Errors of a path that leads to nothing a reader may have, a loop of links among them. Any other one, of a
#: disk or of too many open files, says nothing about the file.
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM}
_KEEP, _ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"


class CatalogFiles(StaticFiles):
    """Answers with the public files below ``root`` and, where it has none of a name, those of ``browser``.

    A symbolic link is followed where it leads to a public file of the same folder. Ranges, ``If-Range``,
    ``HEAD`` and conditional requests are Starlette's.
    """

    def __init__(self, root: Path, browser: Path | None = None) -> None:
        super().__init__(directory=root)
        self._folders: list[tuple[Path, Callable[[str], bool]]] = [(root.resolve(), is_public_key)]
        if browser is not None:
            self._folders.append((browser.resolve(), is_browser_file))

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return path and status of a file; no status where there is none that the public may see.

        Raises:
            OSError: it cannot be said whether there is one.
        """
        for folder, is_public in self._folders:
            if not is_public(path):
                continue
            found = Path(os.path.realpath(folder / path))
            if not (found.is_relative_to(folder) and is_public(found.relative_to(folder).as_posix())):
                continue
            try:
                return str(found), found.stat()
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
        return "", None

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,  # noqa: ARG002 - Starlette asks for others in its HTML mode only
    ) -> Response:
        """The answer that holds the file, or says that the reader's copy is good.

        Raises:
            OSError: the file cannot be read.
        """
        path = Path(full_path)
        response = _read_document(path) if path.suffix == ".json" else _open_file(path, stat_result)
        response.headers["cache-control"] = _KEEP if ASSET_NAME_FORM.fullmatch(path.name) else _ASK_AGAIN
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


def _read_document(path: Path) -> Response:
    """A document whole: its file may be replaced between announcing its length and sending it."""
    body = path.read_bytes()
    is_item = path.stem == path.parent.name and path.name != CATALOG_KEY  # a store may be called catalog
    etag = hashlib.sha256(body).hexdigest()
    return Response(
        body, media_type=GEOJSON_MEDIA_TYPE if is_item else JSON_MEDIA_TYPE, headers={"etag": f'"{etag}"'}
    )


def _open_file(path: Path, status: os.stat_result) -> Response:
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return FileResponse(path, media_type=_MEDIA_TYPES.get(path.suffix), stat_result=status)


logger = logging.getLogger(__name__)
#: Headers that scripts of other pages may read: what geotiff.js needs to read a COG by ranges.
_EXPOSED = ("Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "ETag", "Last-Modified")


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


#: Seconds from a connection, or from a later request's first byte, to the request's last one. uvicorn has a
#: limit for idle connections alone: one that sends a byte a second would hold its place for ever.
REQUEST_S = 15.0
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose request does not come in within ``REQUEST_S``, with 408 if it can be told.

    From ``limit_concurrency`` connections on uvicorn answers requests with 503. One that sends none is closed
    here from twice as many on, so that a process does not run out of files.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.limit_concurrency and len(self.connections) > 2 * self.limit_concurrency:
            transport.write(_TOO_MANY)
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._stop_timer()  # an idle connection is uvicorn's to end

    def _watch(self) -> None:
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(REQUEST_S, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
        self.transport.close()


_BACKLOG = 128
#: Connections from which on a request is answered with 503: a page of STAC Browser opens about ten.
_MOST_CONNECTIONS = 256
#: Seconds that answers under way are given once the server is told to end.
_ENDING_S = 10


class CatalogServer:
    """Serves the catalog in ``root``; bound to its port at once, so that it can say which one.

    Raises:
        SettingsError: a host or port that cannot be had.
    """

    def __init__(self, root: Path, browser: StacBrowser | None, host: str, port: int) -> None:
        self._app = build_app(root, browser)
        self._socket = bind_port(host, port)

    @property
    def url(self) -> str:
        """Where readers find it, without a slash at the end."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self) -> None:
        """Serve until interrupted."""
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(build_config(self._app)).run(sockets=[self._socket])


def build_config(app: Starlette) -> uvicorn.Config:
    """Return how ``app`` is served: with bounds on what a reader may hold, logs where all others go."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_ENDING_S,
    )


def bind_port(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 stands for any free one.

    Raises:
        SettingsError: the host or port cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter: a name that DNS has no form for
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number and number > 0 else getattr(error, "strerror", "no such name")
        raise SettingsError(
            f"{host}:{port}: {reason}: choose another --host or --port; --port 0 takes any free one"
        ) from error
    # asyncio sets this on sockets of its own making alone; without it a body waits 40 ms for the
    # reader to acknowledge the header. Connections inherit it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def find_folder(settings: Settings) -> Path:
    """The store's directory, which holds a catalog.

    Raises:
        SettingsError: the store is a bucket, or no catalog is there.
    """
    if settings.store.startswith("s3://"):
        catalog = f"{settings.public_url or 'https://…'}/{CATALOG_KEY}"
        raise SettingsError(
            f"{settings.store} needs no serve: let others read the bucket (deploy/s3/cors.json) "
            f"and open {HOSTED_URL}{catalog}"
        )
    reader = open_reader(settings.store)
    if not isinstance(reader, LocalStore) or reader.find_object(CATALOG_KEY) is None:
        raise SettingsError(
            f"{reader.url}: no {CATALOG_KEY} there: name the catalog's folder with --store, "
            "or make one with cloudmask demo"
        )
    return reader.root
