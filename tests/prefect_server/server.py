"""A Prefect server with a process worker, on loopback, each with a home of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parents[2]
STARTING_S = 120
T = TypeVar("T")
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLI_COLORS": "false",
}


def wait_for(read: Callable[[], T | None], what: str, seconds: float = STARTING_S) -> T:
    """What ``read`` gives at last."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = read()
        if found is not None:
            return found
        time.sleep(0.25)
    raise TimeoutError(f"{what} did not come within {seconds:.0f} s")


class PrefectServer:
    """The server, spoken to by its API and its own command line."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}/api"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "CLOUDMASK_", "AWS_", "PYTEST_"))
        }
        self.environment = {**inherited, **QUIET, **environment, "PREFECT_API_URL": self.url}

    def command(self, *arguments: str) -> str:
        """The output of ``prefect`` with ``arguments``, run in the checkout."""
        result = subprocess.run(
            self.prefect(*arguments),
            cwd=ROOT,
            env={**self.environment, "PREFECT_HOME": str(self.folder / "client")},
            capture_output=True,
            text=True,
            timeout=STARTING_S,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def prefect(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("prefect")), *arguments]

    def post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", path, body)

    def post_list(self, path: str, body: list[Any]) -> Any:
        return self._ask("POST", path, body)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer; asked again while the server's SQLite is locked, as Prefect's own client does."""

        def ask() -> httpx.Response | None:
            answer = httpx.request(method, f"{self.url}{path}", json=body, timeout=30)
            return None if answer.status_code == 503 else answer

        answer = wait_for(ask, f"an answer to {method} {path}")
        answer.raise_for_status()
        return answer.json()

    def await_run(self, run_id: str, seconds: float = STARTING_S) -> dict[str, Any]:
        """The flow run once it has ended."""

        def read() -> dict[str, Any] | None:
            run: dict[str, Any] = self.get(f"/flow_runs/{run_id}")
            return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return wait_for(read, f"the end of flow run {run_id}", seconds)

    @contextmanager
    def work(self, **environment: str) -> Iterator[Path]:
        """A worker of the pool, while inside; the file that it logs to."""
        log = self.folder / "worker.log"
        with log.open("ab") as file:
            worker = subprocess.Popen(
                self.prefect("worker", "start", "--pool", "cloudmask", "--type", "process", "--limit", "2"),
                cwd=ROOT,
                env={**self.environment, "PREFECT_HOME": str(self.folder / "worker"), **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                yield log
            finally:
                end(worker)


@contextmanager
def run_prefect_server(folder: Path, environment: Mapping[str, str]) -> Iterator[PrefectServer]:
    """A running server with the deployments of ``deploy/prefect.yaml``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = PrefectServer(folder, port, environment)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            server.prefect("server", "start", "--host", "127.0.0.1", "--port", str(port)),
            cwd=folder,
            env={**server.environment, "PREFECT_HOME": str(folder / "server")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: _is_healthy(server.url), "the server")
            yield server
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours by its pid."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_healthy(url: str) -> bool | None:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200 or None
    except httpx.HTTPError:
        return None
