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
from typing import Any, Self

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from pc_cloudmask.catalog.documents import GEOPACKAGE_MEDIA_TYPE, PARQUET_MEDIA_TYPE, QML_MEDIA_TYPE
from pc_cloudmask.catalog.feed import NDJSON_MEDIA_TYPE
from pc_cloudmask.catalog.fields import COG_MEDIA_TYPE, GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import (
    ASSET_NAME_FORM,
    CATALOG_KEY,
    CHANGES_FORM,
    COLLECTION_ID,
    COLLECTION_KEY,
    ITEMS_PREFIX,
    STYLE_KEY,
    TILE_INDEX_KEY,
)
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.settings import Settings
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.stores import open_reader
from pc_cloudmask.viewing.stac_browser import CONFIG_NAME, HOSTED_URL, StacBrowser

logger = logging.getLogger(__name__)
_ID = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_ZONE, _TILE = r"\d{2}[A-Z]", r"\d{2}[A-Z]{3}"
_ITEM_FOLDER = rf"{_ZONE}/{_TILE}/\d{{4}}/(?P<item>{_ID})"
_ITEM_DOCUMENT = rf"(?:(?P=item)|withdrawn|superseded-by-{_ID})\.json"
#: Keys of the published layout, including marks of withdrawn and superseded items; `deploy/nginx/nginx.conf`
#: has the same list. The last line is the archive that `cloudmask demo` puts into its store, because its items
#: link the bands in it.
_PUBLIC_KEY = re.compile(
    rf"{re.escape(CATALOG_KEY)}"
    rf"|{re.escape(COLLECTION_KEY)}"
    rf"|{COLLECTION_ID}/{_ZONE}/(?:{_TILE}/(?:\d{{4}}/)?)?{re.escape(CATALOG_KEY)}"
    rf"|{COLLECTION_ID}/{_ITEM_FOLDER}/(?:{_ITEM_DOCUMENT}|{ASSET_NAME_FORM.pattern})"
    rf"|{ITEMS_PREFIX}{_ID}\.parquet"
    rf"|{re.escape(TILE_INDEX_KEY)}|{re.escape(STYLE_KEY)}"
    rf"|{CHANGES_FORM.pattern}"
    rf"|sample-archive/(?:items\.json|{_ID}/{_ID}\.(?:json|tif))",
    re.ASCII,
)
#: What a build of STAC Browser 4 or 5 consists of: pages, scripts, styles, pictures, fonts. It may be in
#: the store's folder, whose state is JSON.
_BROWSER_FILE = re.compile(
    r"(?:[^/._][^/]*/)*[^/.][^/]*\."
    r"(?:html|js|mjs|css|map|webmanifest|png|jpe?g|gif|svg|webp|ico|woff2?|ttf|wasm)"
)
_MEDIA_TYPES = {
    ".tif": COG_MEDIA_TYPE,
    ".parquet": PARQUET_MEDIA_TYPE,
    ".gpkg": GEOPACKAGE_MEDIA_TYPE,
    ".qml": QML_MEDIA_TYPE,
    ".jsonl": NDJSON_MEDIA_TYPE,
}
#: Errors for a path that leads to nothing a reader may have, such as a loop of links. Any other error, of a
#: disk or from too many open files, says nothing about the file.
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM}
_KEEP, _ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"
#: Headers that scripts of other pages may read: those that geotiff.js needs to read a COG by ranges.
_EXPOSED = ("Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "ETag", "Last-Modified")
#: Seconds from a connection, or from a later request's first byte, to the request's last byte. uvicorn only
#: limits idle connections: one that sends a byte a second would hold its place for ever.
REQUEST_S = 15.0
_ANSWER = b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_BACKLOG = 128
#: Number of connections from which on a request is answered with 503: a page of STAC Browser opens about ten.
_MOST_CONNECTIONS = 256
#: Seconds for answers in progress once the server is told to end.
_ENDING_S = 10


def is_public_key(key: str) -> bool:
    """Return True if ``key`` belongs to the published layout."""
    return _PUBLIC_KEY.fullmatch(key) is not None


class CatalogFiles(StaticFiles):
    """The public files below ``root`` and, if it has none of that name, those of ``browser``.

    A symbolic link is followed only to a public file of the same folder. Ranges, ``If-Range``,
    ``HEAD`` and conditional requests are Starlette's.
    """

    def __init__(self, root: Path, browser: Path | None = None) -> None:
        super().__init__(directory=root)
        self._folders: list[tuple[Path, Callable[[str], object]]] = [(root.resolve(), is_public_key)]
        if browser is not None:
            self._folders.append((browser.resolve(), _BROWSER_FILE.fullmatch))

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return path and status of a file; no status if there is none that the public may see.

        Raises:
            OSError: It is unknown whether there is one.
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
        """Return an answer with the file, or one that says that the reader's copy is still valid.

        Raises:
            OSError: The file cannot be read.
        """
        path = Path(full_path)
        response = _read_document(path) if path.suffix == ".json" else _open_file(path, stat_result)
        response.headers["cache-control"] = _KEEP if ASSET_NAME_FORM.fullmatch(path.name) else _ASK_AGAIN
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


def _read_document(path: Path) -> Response:
    """Return a document, read at once: its file may be replaced between sending its length and its content."""
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


def build_app(root: Path, browser: StacBrowser | None = None) -> Starlette:
    """Return an application that serves the catalog in ``root`` to any page, and ``browser`` at ``/``.

    Without a browser it serves a small page of our own.
    """
    page = browser.page if browser else Path(__file__).with_name("page.html").read_text("utf-8")

    def front(_: Request) -> Response:
        return HTMLResponse(page, headers={"cache-control": "no-cache"})

    def config(_: Request) -> Response:
        return Response(StacBrowser.config_script(), media_type="text/javascript")

    routes: list[Route | Mount] = [
        Route("/", front),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
    ]
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
    """Return 404 for a file that has disappeared or may not be read, and 503 for one that fails."""
    if isinstance(error, OSError) and error.errno in ABSENT:
        return PlainTextResponse("Not Found", 404)
    logger.warning("cannot read a file: %s", error)
    return PlainTextResponse("The file cannot be read at the moment", 503)


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose request does not arrive within ``REQUEST_S``, with 408 if possible.

    From ``limit_concurrency`` connections on, uvicorn answers requests with 503. From twice as many on, connections
    that send no request are closed here, so that the process does not run out of file descriptors.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request, or turn the reader away."""
        super().connection_made(transport)
        if self.limit_concurrency and len(self.connections) > 2 * self.limit_concurrency:
            self._close(b"503 Service Unavailable")
        self._watch(self.conn.their_state)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the request, if there is more to come."""
        super().data_received(data)
        self._watch(self.conn.their_state)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._watch(None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Leave an idle connection to uvicorn's own limit."""
        super().on_response_complete()
        self._watch(None)

    def _watch(self, state: Any) -> None:
        """Run the timer only while the reader has to send something."""
        if state in {h11.IDLE, h11.SEND_BODY}:
            self._timer = self._timer or self.loop.call_later(REQUEST_S, self._close, b"408 Request Timeout")
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, status: bytes) -> None:
        if self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            self.transport.write(_ANSWER % status)
        self.transport.close()


class CatalogServer(uvicorn.Server):
    """A server of the catalog in ``root``, bound to its port at once, so that it can report the port.

    What a reader may use is limited; logs go where all others go.

    Raises:
        SettingsError: The host or port is not available.
    """

    def __init__(self, root: Path, browser: StacBrowser | None, host: str, port: int) -> None:
        config = uvicorn.Config(
            build_app(root, browser),
            http=ImpatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_ENDING_S,
        )
        super().__init__(config)
        self._socket = bind_port(host, port)

    @property
    def url(self) -> str:
        """Return the URL for readers, without a trailing slash."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until interrupted."""
        with contextlib.suppress(KeyboardInterrupt):
            super().run(sockets or [self._socket])


def bind_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 means any free one.

    Raises:
        SettingsError: The host or port is not available.
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
    # asyncio sets this only on sockets that it creates; without it a body waits 40 ms for the
    # reader to acknowledge the header. Connections inherit it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def find_folder(settings: Settings) -> Path:
    """Return the store's directory, which holds a catalog.

    Raises:
        SettingsError: The store is a bucket, or has no catalog.
    """
    if settings.store.startswith("s3://"):
        catalog = f"{settings.public_url or 'https://…'}/{CATALOG_KEY}"
        raise SettingsError(
            f"{settings.store} needs no serve: let others read the bucket, and pages of any origin (CORS), "
            f"and open {HOSTED_URL}{catalog}"
        )
    reader = open_reader(settings.store)
    if not isinstance(reader, LocalStore) or reader.find_object(CATALOG_KEY) is None:
        raise SettingsError(
            f"{reader.url}: no {CATALOG_KEY} there: name the catalog's folder with --store, "
            "or make one with cloudmask demo"
        )
    return reader.root
