"""Prefect as ``deploy/compose.yaml`` starts it, on loopback, each service with a home of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.flows.compose import (
    PASSWORD,
    assert_all_used,
    build_replacements,
    read_service,
    write_secrets,
)

ROOT = Path(__file__).parents[2]
STARTING_S = 900
T = TypeVar("T")
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # What looks for what none of the tests does costs a processor while they wait.
    **{
        f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
        for service in ("CANCELLATION_CLEANUP", "FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS", "REPOSSESSOR")
    },
    # SQLite locks, which Prefect answers with 503: a slow machine may take its time.
    "PREFECT_SERVER_DATABASE_TIMEOUT": "120",
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "120",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_WORKER_WEBSERVER_PORT": "0",
}


def wait_for(read: Callable[[], T | None], what: str, seconds: float = STARTING_S) -> T:
    """What ``read`` gives at last."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = read()
        if found is not None:
            return found
        time.sleep(1)  # each look costs the server, too
    raise TimeoutError(f"{what} did not come within {seconds:.0f} s")


class PrefectServer:
    """The server, spoken to by its API and its own command line."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"{self.origin}/api"
        self._replacements = build_replacements(folder, port)
        assert_all_used(self._replacements)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "CLOUDMASK_", "AWS_", "PYTEST_"))
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**inherited, **QUIET, **environment, "PATH": path}
        self.environment["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = str(folder / "ui")
        # One for all requests, for making one takes a while; each request has a connection of its own.
        self.client = httpx.Client(timeout=STARTING_S, limits=httpx.Limits(max_keepalive_connections=0))

    @contextmanager
    def start(
        self, name: str, folder: Path, log: Path, environment: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A service of the compose file that runs while inside; ``environment`` is its own."""
        service = read_service(name, self._replacements)
        home = {"PREFECT_HOME": str(self.folder / name)}
        with log.open("ab") as file:
            process = subprocess.Popen(
                service.command,
                cwd=folder,
                env={**self.environment, **service.environment, **home, **(environment or {})},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                end(process)

    def run_service(self, name: str) -> str:
        """The output of a service that runs once, from the checkout."""
        log = self.folder / f"{name}.log"
        with self.start(name, ROOT, log) as process:
            process.wait(STARTING_S)
        assert process.returncode == 0, log.read_text()
        return log.read_text()

    def command(self, *arguments: str, password: str = PASSWORD, folder: Path = ROOT) -> str:
        """The output of ``prefect`` with ``arguments``, run in the checkout or another folder."""
        client = {
            "PREFECT_HOME": str(self.folder / "client"),
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": password,
        }
        result = subprocess.run(
            [str(Path(sys.executable).with_name("prefect")), *arguments],
            cwd=folder,
            env={**self.environment, **client},
            capture_output=True,
            text=True,
            timeout=STARTING_S,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", path, body)

    def post_list(self, path: str, body: list[Any]) -> Any:
        return self._ask("POST", path, body)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return self._request(method, path, body).json()

    def _request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """The answer; asked again while the server's SQLite is locked, as Prefect's own client does."""

        def ask() -> httpx.Response | None:
            headers = {"Authorization": f"Basic {b64encode(PASSWORD.encode()).decode()}"}
            answer = self.client.request(method, f"{self.url}{path}", json=body, headers=headers)
            return None if answer.status_code == 503 else answer

        answer = wait_for(ask, f"an answer to {method} {path}")
        answer.raise_for_status()
        return answer

    def await_run(self, run_id: str, seconds: float = STARTING_S) -> dict[str, Any]:
        """The flow run once it has ended."""

        def read() -> dict[str, Any] | None:
            run: dict[str, Any] = self.get(f"/flow_runs/{run_id}")
            return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return wait_for(read, f"the end of flow run {run_id}", seconds)

    def send_events(self, events: list[dict[str, Any]]) -> None:
        """Tell the server of what a client would."""
        self._request("POST", "/events", events)

    @contextmanager
    def work(self, folder: Path = ROOT, **environment: str) -> Iterator[Path]:
        """A worker of the pool in ``folder``, while inside; the file that it logs to."""
        log = self.folder / "worker.log"
        with self.start("worker", folder, log, environment):
            yield log


@contextmanager
def run_prefect_server(folder: Path, environment: Mapping[str, str]) -> Iterator[PrefectServer]:
    """A running server; ``environment`` is that of all services, as far as compose leaves it open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    write_secrets(folder)
    server = PrefectServer(folder, port, environment)
    with server.client, server.start("prefect", folder, folder / "server.log") as process:

        def is_healthy() -> bool | None:
            assert process.poll() is None, (folder / "server.log").read_text()
            return _is_healthy(server)

        wait_for(is_healthy, "the server")
        yield server


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours by its pid."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_healthy(server: PrefectServer) -> bool | None:
    try:
        return server.client.get(f"{server.url}/health").status_code == 200 or None
    except httpx.HTTPError:
        return None
