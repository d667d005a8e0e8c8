"""What keeps a command from becoming a flow run."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.doubles.command import ROOT, run

pytestmark = pytest.mark.usefixtures("fixed_clock")

NOBODY = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}


def write_items(folder: Path) -> Path:
    items = folder / "items.json"
    items.write_text('{"type": "FeatureCollection", "features": []}')
    return items


def test_an_api_that_is_down_ends_a_command_with_one_line(tmp_path: Path) -> None:
    result = run("ingest", "--items", write_items(tmp_path), "--json", cwd=tmp_path, **NOBODY)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert "127.0.0.1:9" in line
    assert "--no-prefect" in line


@contextlib.contextmanager
def web_page(body: bytes) -> Iterator[str]:
    """URL of what answers every request with one page, as a sign-in in front of a server does."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that it is called by

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"\xff\xfe\xff", b'{"error": "sign in"}'])
def test_a_web_page_in_place_of_the_api_ends_a_command_with_one_line(tmp_path: Path, body: bytes) -> None:
    with web_page(body) as url:
        result = run(
            "ingest",
            "--items",
            write_items(tmp_path),
            cwd=tmp_path,
            **{**NOBODY, "PREFECT_API_URL": f"{url}/api"},
        )
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "PREFECT_API_URL" in line
    assert "--no-prefect" in line


@pytest.mark.parametrize("url", ["https://h/items.json?sig=planted", "https://planted@h/items.json"])
def test_a_signed_location_becomes_no_parameter(url: str, tmp_path: Path) -> None:
    result = run("--prefect", "ingest", "--items", url, cwd=tmp_path)
    assert result.returncode == 2
    assert "--no-prefect" in result.stderr
    assert "planted" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_api_that_is_down_does_not_end_the_watch(tmp_path: Path) -> None:
    command = ["--json", "watch", "--every", "1s", "--tile", "22KFV", "--items", str(write_items(tmp_path))]
    with subprocess.Popen(
        [sys.executable, "-m", "pc_cloudmask", *command],
        cwd=tmp_path,
        env={**os.environ, **NOBODY, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        try:
            reports = [json.loads(watch.stdout.readline()) for _ in range(2)]
        finally:
            watch.kill()
    assert all("--no-prefect" in report["problems"][0] for report in reports)
