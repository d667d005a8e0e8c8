"""`cloudmask serve` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.doubles.command import ROOT, run

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "catalog.json").write_text('{"type": "Catalog"}')
    return folder


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pc_cloudmask.cli import main
main()
"""


@contextmanager
def serving(store: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which is gone in the end whatever happens.

    An interrupt reaches it even where the tests run in the background and inherit that none does.
    """
    command = [sys.executable, "-c", PROGRAM, "serve", "--store", str(store), "--port", "0", *arguments]
    with subprocess.Popen(
        command,
        cwd=store.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_says_where_it_listens_serves_and_ends_quietly(store: Path) -> None:
    store.chmod(0o555)  # a reader needs no right to write
    with serving(store, "--json") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        told = json.loads("".join(lines))
        assert told["browser"] is None
        assert "<title>Cloud masks</title>" in requests.get(told["page"], timeout=600).text
        assert told["catalog"] == f"{told['url']}/catalog.json"
        assert told["url"].startswith("http://127.0.0.1:")
        assert requests.get(told["catalog"], timeout=600).json() == {"type": "Catalog"}
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=600)
    assert (process.returncode, stderr) == (0, "")


def test_without_a_browser_it_says_how_to_get_one(store: Path) -> None:
    with serving(store) as process:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(5))
    assert "radiantearth.github.io/stac-browser/#/external/http://127.0.0.1:" in told
    assert "--build-browser" in told


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--store", "absent"], "cloudmask demo"),
        (["--store", "s3://masks/prod"], "CORS"),
        (["--browser", "."], "--build-browser"),
        (["--host", "203.0.113.1"], "--host"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(store: Path, arguments: list[str], hint: str) -> None:
    result = run("serve", *arguments, cwd=store.parent, CLOUDMASK_STORE=str(store))
    assert (result.returncode, result.stdout) == (2, "")
    assert hint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_said_so(store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", "--store", store, "--port", str(port), cwd=store.parent)
    assert result.returncode == 2
    assert f"127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr
