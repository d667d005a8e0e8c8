"""The process behind ``tests.s3_server``: ``python -m tests.s3_process SHARE_OF_FAILING_PUTS``."""

from __future__ import annotations

import logging
import random
import sys
import threading
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class FaultyApplication:
    """A WSGI application of which a share of PUTs fails: half before the write, half after it.

    The latter are the lost answers: the write is done, the client hears 503.
    """

    def __init__(self, application: Any, share: float, seed: int) -> None:
        self._application = application
        self._share = share
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT":
            return self._application(environ, start_response)
        with self._lock:
            dice = self._random.random()
        if dice >= self._share:
            return self._application(environ, start_response)
        if dice < self._share / 2:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        else:
            for _ in self._application(environ, lambda *_: None):
                pass
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return [b""]


def main(fault_share: float) -> None:
    """Serve until terminated; the first line of the output is the URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = FaultyApplication(DomainDispatcherApplication(create_backend_app), fault_share, seed=7)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(float(sys.argv[1]))
