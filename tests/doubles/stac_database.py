"""A PostgreSQL server of the test's own with pgstac, and stac-fastapi in front of it: ``make pgstac`` installs both."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-pgstac" / "bin"
#: Debian's own place, which is on nobody's PATH.
_SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_USER = "postgres"
#: A guard against what hangs, not a measure of what is slow.
_LIMIT_S = 600


def find_lacking() -> str:
    """What of all this the machine lacks; empty if nothing."""
    if not (TOOLS / "pypgstac").is_file():
        return "there is no pgstac: make pgstac"
    if not any((folder / "postgres").is_file() for folder in _SERVERS) or shutil.which("psql") is None:
        return "there is no PostgreSQL: apt-get install postgresql postgis"
    if not list(Path("/usr/share/postgresql").glob("*/extension/postgis.control")):
        return "there is no PostGIS: apt-get install postgresql-15-postgis-3"
    return ""


@dataclass(frozen=True)
class StacDatabase:
    """Where the database is, as libpq's variables say it, and the API's URL."""

    environment: Mapping[str, str]
    url: str

    def run(self, *command: str | Path) -> str:
        """Output of a command that must succeed."""
        ran = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def load(self, folder: Path) -> None:
        """Load an export, as the page says."""
        for kind in ("collections", "items"):
            name = "collection" if kind == "collections" else kind
            self.run(TOOLS / "pypgstac", "load", kind, folder / f"{name}.ndjson", "--method", "upsert")
        self.run("psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={folder / 'prune.sql'}")


@contextlib.contextmanager
def run_stac_database(folder: Path) -> Iterator[StacDatabase]:
    """Both servers on free ports of loopback, ended by their own handles."""
    bin_folder = next(each for each in _SERVERS if (each / "postgres").is_file())
    owner = {} if os.geteuid() else {"user": pwd.getpwnam(_USER).pw_uid, "group": pwd.getpwnam(_USER).pw_gid}
    # PostgreSQL refuses to run as root, and its user cannot look into root's folders.
    data = Path("/tmp") / f"cloudmask-pg-{os.getpid()}"
    data.mkdir(mode=0o700)
    if owner:
        os.chown(data, owner["user"], owner["group"])
    port, api_port = _find_port(), _find_port()
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(port),
        "PGUSER": _USER,
        "PGDATABASE": _USER,
        "PGPASSWORD": "unused",  # pragma: allowlist secret
        "PYTHONPATH": "",
    }
    try:
        initdb = [bin_folder / "initdb", "-D", data / "data", "-A", "trust", "-U", _USER, "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **owner)
        options = ["-k", data, "-h", "127.0.0.1", "-p", str(port), "-c", "fsync=off"]
        server = [bin_folder / "postgres", "-D", data / "data", *options]
        with _running(server, folder / "postgres.txt", environment, owner):
            _wait(lambda: _is_ready(bin_folder, environment))
            database = StacDatabase(environment, f"http://127.0.0.1:{api_port}")
            database.run(TOOLS / "pypgstac", "migrate")
            app = "stac_fastapi.pgstac.app:create_app"
            api = [TOOLS / "python", "-m", "uvicorn", "--factory", app, "--port", str(api_port)]
            with _running(api, folder / "api.txt", environment, {}):
                _wait(lambda: _answers(database.url))
                yield database
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def _running(
    command: list[str | Path], log: Path, environment: Mapping[str, str], owner: Mapping[str, int]
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd="/", stdout=output, stderr=output, **owner)
        try:
            yield
        finally:
            process.terminate()
            process.wait(_LIMIT_S)


def _is_ready(bin_folder: Path, environment: Mapping[str, str]) -> bool:
    return subprocess.run([bin_folder / "pg_isready", "-q"], env=environment, check=False).returncode == 0


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/_mgmt/ping", timeout=10).ok
    except requests.RequestException:
        return False


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < end, "the server does not come up"
        time.sleep(0.2)


def _find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
