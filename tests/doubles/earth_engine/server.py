"""The HTTP server."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.doubles.earth_engine.downloads import File
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.faults import (
    Answer,
    Delay,
    ErrorReply,
    Fault,
    Faults,
    Hang,
    Html,
    Reset,
    Restricted,
    Truncate,
    WrongShape,
    too_many_requests,
)
from tests.doubles.earth_engine.requests import Request, RequestLog, grid_pixels
from tests.doubles.earth_engine.routes import Routes
from tests.doubles.earth_engine.world import World

logger = logging.getLogger(__name__)
PROFILE_REQUEST_HEADER, PROFILE_HEADER = (
    "X-Earth-Engine-Computation-Profiling",
    "X-Earth-Engine-Computation-Profile",
)


class LocalEarthEngine:
    """An Earth Engine on a free port of the loopback interface, as a context manager.

    ``world`` holds its images, ``faults`` what goes wrong, ``requests`` what was asked.
    ``concurrency_limit`` requests may be under way at once; those over it are answered 429. With ``tells_profiles``
    a client that asks for profiles is given the id of one with each answer.
    """

    def __init__(self) -> None:
        self.world = World()
        self.faults = Faults()
        self.requests = RequestLog()
        self.concurrency_limit: int | None = None
        self.tells_profiles = False
        self.routes = Routes(self.world)
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.engine = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="earth-engine")

    @property
    def url(self) -> str:
        """For ``ee.Initialize(url=...)``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LocalEarthEngine:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that it can end while clients keep theirs."""

    daemon_threads = False
    request_queue_size = 128
    engine: LocalEarthEngine

    def __init__(self, *args: Any) -> None:
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._connections_lock:
            open_connections = list(self._connections)
        for connection in open_connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                logger.debug("connection was closed already")

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        logger.exception("request failed")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: with Nagle's algorithm the second waits 40 ms for the client's ACK.
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
        logger.debug(format, *args)

    def _serve(self) -> None:
        engine = self.server.engine
        request = self._read_request()
        under_way = engine.requests.begin(request)
        try:
            limit = engine.concurrency_limit
            fault = too_many_requests() if limit and under_way > limit else engine.faults.find(request)
            request.fault = type(fault).__name__ if fault else None
            self._answer(request, fault)
        except (BrokenPipeError, ConnectionResetError):
            # A client whose deadline has passed does not wait for its answer.
            self.close_connection = True
        finally:
            engine.requests.end()

    def _read_request(self) -> Request:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        document = json.loads(body) if body else {}
        path = unquote(url.path)
        pixels = grid_pixels(document) or self.server.engine.routes.count_pixels(path)
        return Request(
            self.command, path, dict(parse_qsl(url.query)), document, dict(self.headers.items()), pixels
        )

    def _answer(self, request: Request, fault: Fault | None) -> None:
        if isinstance(fault, Reset):
            self._reset()
        elif isinstance(fault, Hang):
            self.server.engine.stopping.wait(fault.seconds)
            self.close_connection = True
        elif isinstance(fault, Html):
            self._reply(request, 200, File(fault.body.encode(), "text/html; charset=utf-8"))
        elif isinstance(fault, Answer):
            self._reply(request, 200, File(json.dumps(fault.document).encode(), "application/json"))
        elif isinstance(fault, ErrorReply):
            self._reply_error(request, fault)
        else:
            if isinstance(fault, Delay):
                self.server.engine.stopping.wait(fault.seconds)
            self._compute(request, fault)

    def _compute(self, request: Request, fault: Fault | None) -> None:
        extra = (fault.rows, fault.cols) if isinstance(fault, WrongShape) else (0, 0)
        share = fault.share if isinstance(fault, Truncate) else 1.0
        headers = dict(fault.headers) if isinstance(fault, Restricted) else {}
        if self.server.engine.tells_profiles and PROFILE_REQUEST_HEADER in request.headers:
            headers[PROFILE_HEADER] = f"profile-{id(request)}"
        try:
            file = self.server.engine.routes.answer(request, extra)
        except EarthEngineError as error:
            self._reply_error(request, ErrorReply(error.code, error.status, error.message))
        except Exception as error:
            # A mistake in the server's own code must fail the test that met it, with its cause.
            logger.exception("%s %s", request.method, request.path)
            message = f"local Earth Engine failed: {type(error).__name__}: {error}"
            self._reply_error(request, ErrorReply(400, "UNIMPLEMENTED", message))
        else:
            self._reply(request, 200, file, headers, share)

    def _reply_error(self, request: Request, error: ErrorReply) -> None:
        body = json.dumps(error.document()).encode()
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        self._reply(request, error.code, File(body, "application/json; charset=UTF-8"), headers)

    def _reply(
        self,
        request: Request,
        status: int,
        file: File,
        headers: Mapping[str, str] = MappingProxyType({}),
        share: float = 1.0,
    ) -> None:
        request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", file.media_type)
        self.send_header("Content-Length", str(len(file.body)))
        self.end_headers()
        self.wfile.write(file.body[: int(len(file.body) * share)])
        if share < 1:
            self.close_connection = True

    def _reset(self) -> None:
        """Close with an RST in place of a FIN, as a crashed peer or a middlebox does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.close_connection = True
