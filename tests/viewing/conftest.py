"""A small catalog on a server of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from pc_cloudmask.viewing.server import bind_port, build_app, build_config
from pc_cloudmask.viewing.stac_browser import StacBrowser

ITEM = "sentinel-2-l2a-cloudmask/22K/22KFV/2018/S2B_X/S2B_X.json"
MASK = "sentinel-2-l2a-cloudmask/22K/22KFV/2018/S2B_X/cloudmask-0123456789abcdef.tif"
MASK_BYTES = bytes(range(256)) * 300

Serve = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store's folder: public files, private state, files of other people."""
    files = {
        "catalog.json": b'{"type": "Catalog"}',
        ITEM: b'{"type": "Feature"}',
        MASK: MASK_BYTES,
        "sentinel-2-l2a-cloudmask/items/part.parquet": b"PAR1",
        "sample-archive/S2B_X/B04.tif": b"II*\0",
        "secret.key": b"secret",
        "secret.json": b"secret",
        "cloudmask.toml": b"secret",
        "cloudmask-0123456789abcdef.tif": b"secret",
        "sample-archive/notes.txt": b"secret",
        "sentinel-2-l2a-cloudmask/secret.json": b"secret",
        "sentinel-2-l2a-cloudmask/22K/notes.json": b"secret",
        "sentinel-2-l2a-cloudmask/22K/22KFV/2018/S2B_X/secret.key": b"secret",
        "sentinel-2-l2a-cloudmask/22K/22KFV/2018/S2B_X/cloudmask-0123456789abcdef.tif.bak": b"secret",
        "sentinel-2-l2a-cloudmask/items/secret.csv": b"secret",
        "_pending/S2B_X.json": b"secret",
        "_waiting/S2B_X.json": b"secret",
        "_failed/S2B_X.json": b"secret",
        "_probe/x": b"secret",
        ".tmp/half-written": b"secret",
        ".env": b"secret",
        "sentinel-2-l2a-cloudmask/.hidden": b"secret",
    }
    for key, body in files.items():
        path = tmp_path / "store" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (tmp_path / "outside.json").write_bytes(b"secret")
    return tmp_path / "store"


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Serves a folder, and a browser, on a free port of loopback; gives the URL.

    All servers end together: each one takes a fifth of a second for it.
    """
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def start(root: Path, browser: StacBrowser | None = None) -> str:
        listening = bind_port("127.0.0.1", 0)
        server = uvicorn.Server(build_config(build_app(root, browser)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread, listening))
        return "http://127.0.0.1:{1}".format(*listening.getsockname())

    yield start
    for server, _, _ in running:
        server.should_exit = True
    for _, thread, listening in running:
        thread.join()
        listening.close()
