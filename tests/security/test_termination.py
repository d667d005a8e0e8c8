"""SIGTERM and Ctrl-C while a run uploads into a bucket."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pc_cloudmask.catalog.layout import CATALOG_KEY
from pc_cloudmask.storage.stores import open_store
from tests.doubles.command import running
from tests.doubles.range_server import RangeServer, wait_until
from tests.doubles.s3_server import S3Server
from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler
from tests.sample_archive import BRAZIL, select_items
from tests.security.commands import SOURCE_DATE_EPOCH, check_store, run

pytestmark = pytest.mark.slow

STARTING_S = 600
#: Scenes of one tile and year: root, collection, zone, tile and year link them.
WHOLE = f"looked at {len(BRAZIL)} items, 5 catalogs, {2 * len(BRAZIL)} files; 0 being published; nothing wrong found"
FIXED = {"SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH}
HEED_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""Ctrl-C reaches the command even where the tests run in the background and inherit that none does."""


class _Handler(QuietHandler):
    app: Gate

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command == "PUT" and self.path.endswith(self.app.held_suffix):
            self.app.held.append(self.path)
            self.app.opened.wait(STARTING_S)
        headers = {name: value for name, value in self.headers.items() if name not in {"Host", "Expect"}}
        answer = requests.request(
            self.command, self.app.target + self.path, headers=headers, data=body, timeout=STARTING_S
        )
        try:
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in {"Connection", "Date", "Server", "Transfer-Encoding"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815 - the base class's names


class Gate(LoopbackServer):
    """Passes requests on to ``target``; uploads of keys with ``held_suffix`` wait until it is opened."""

    handler = _Handler

    def __init__(self, target: str, held_suffix: str) -> None:
        super().__init__()
        self.target = target
        self.held_suffix = held_suffix
        self.held: list[str] = []
        self.opened = threading.Event()


@pytest.fixture
def served_items(sample_items: Path, tmp_path: Path) -> Iterator[str]:
    """URL of the items of one tile."""
    path = select_items(sample_items, tmp_path / "archive", BRAZIL)
    with RangeServer(path.parent) as server:
        yield f"{server.url}/{path.name}"


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    s3_server.use(monkeypatch)
    return f"s3://{s3_server.create_bucket()}/out"


@pytest.mark.parametrize(
    ("number", "status", "word", "held_suffix", "put"),
    [
        (signal.SIGTERM, 143, "terminated", ".tif", 1),
        (signal.SIGINT, 130, "interrupted", ".tif", 1),
        (signal.SIGTERM, 143, "terminated", "/2018/catalog.json", len(BRAZIL)),
    ],
)
def test_a_signal_ends_what_is_under_way_and_begins_nothing_and_the_next_run_goes_on(
    *,
    s3_server: S3Server,
    bucket: str,
    served_items: str,
    tmp_path: Path,
    number: signal.Signals,
    status: int,
    word: str,
    held_suffix: str,
    put: int,
) -> None:
    ingest = ("ingest", "--items", served_items, "--store", bucket)
    one = {"CLOUDMASK_WORKERS": "1"}
    with (
        Gate(s3_server.url, held_suffix) as gate,
        running(
            *ingest,
            cwd=tmp_path,
            prelude=HEED_INTERRUPTS,
            **{**FIXED, **s3_server.environment(), **one, "AWS_ENDPOINT_URL": gate.url},
        ) as process,
    ):
        wait_until(lambda: gate.held, STARTING_S)
        process.send_signal(number)
        gate.opened.set()
        _, stderr = process.communicate(timeout=STARTING_S)
    assert (process.returncode, stderr) == (
        status,
        f"cloudmask: {word}; run the same command again to go on\n",
    )
    half = check_store(bucket)
    assert [str(finding) for finding in half.findings] == []
    assert half.items == put
    # Catalogs that are being written are written to the end.
    is_linked = open_store(bucket).read_object(CATALOG_KEY) is not None
    assert is_linked == held_suffix.endswith("catalog.json")

    again = run(*ingest, cwd=tmp_path, environment=s3_server.environment())
    assert (again.returncode, again.stderr) == (0, "")
    whole = run("check", "--store", bucket, cwd=tmp_path, environment=s3_server.environment())
    assert WHOLE in whole.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_kills_and_the_next_run_goes_on(
    s3_server: S3Server, bucket: str, served_items: str, tmp_path: Path, number: signal.Signals
) -> None:
    ingest = ("ingest", "--items", served_items, "--store", bucket)
    with (
        Gate(s3_server.url, ".tif") as gate,
        running(
            *ingest,
            cwd=tmp_path,
            prelude=HEED_INTERRUPTS,
            **{**FIXED, **s3_server.environment(), "AWS_ENDPOINT_URL": gate.url},
        ) as process,
    ):
        wait_until(lambda: gate.held, STARTING_S)
        while process.poll() is None:
            process.send_signal(number)
            threading.Event().wait(0.05)
        gate.opened.set()
    assert process.returncode == -number
    assert check_store(bucket).is_whole
    assert run(*ingest, cwd=tmp_path, environment=s3_server.environment()).returncode == 0
    assert check_store(bucket).is_whole
