"""A small catalog on a server of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pc_cloudmask.viewing.server import CatalogServer
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
        "sentinel-2-l2a-cloudmask/masks.gti.gpkg": b"SQLite",
        "sentinel-2-l2a-cloudmask/masks.gti.qml": b"<qgis/>",
        "changes/2026/11/28.jsonl": b"{}\n",
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
        "changes/2026/11/secret.jsonl": b"secret",
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
    running: list[tuple[CatalogServer, threading.Thread]] = []
    with contextlib.ExitStack() as sockets:

        def start(root: Path, browser: StacBrowser | None = None) -> str:
            server = sockets.enter_context(CatalogServer(root, browser, "127.0.0.1", 0))
            thread = threading.Thread(target=server.run)
            thread.start()
            running.append((server, thread))
            return server.url

        yield start
        for server, _ in running:
            server.should_exit = True
        for _, thread in running:
            thread.join()
