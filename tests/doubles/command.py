"""The ``cloudmask`` command in a process of its own, which sees nothing of the caller's settings."""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
#: How variables of the caller begin that would reach the command, its libraries or its requests to loopback.
SETTINGS = ("CLOUDMASK_", "PREFECT_", "AWS_", "PC_SDK_", "PYTEST_", "GOOGLE_", "GDAL_", "CPL_", "PROJ_")
AMBIENT = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "NETRC",
    "REQUESTS_CA",
    "CURL_CA",
    "SSL_CERT",
)
#: A guard against a command that hangs, not a measure of one that is slow.
LIMIT_S = 900
#: Commands are forked from a process that has these, which saves most of the two seconds that importing them takes.
#: None of them reads the environment when it is imported, as Prefect, the command's consoles and ``raster.gdal`` do.
LIBRARIES = [
    "boto3",
    "ee",
    "numpy",
    "odc.stac",
    "pc_cloudmask.catalog.check",
    "pc_cloudmask.catalog.item",
    "pc_cloudmask.cli.app",
    "pc_cloudmask.runs.area_state",
    "pc_cloudmask.runs.candidate",
    "pc_cloudmask.runs.context",
    "pc_cloudmask.storage.stores",
    "planetary_computer",
    "pystac_client",
    "rasterio",
    "rich.progress",
    "tests.catalog.killed",
    "typer",
]
STREAMS = ("stdout", "stderr")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(LIBRARIES)


def build_environment(cwd: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without any settings, Prefect's home in ``cwd``, and ``environment``."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(SETTINGS + AMBIENT)
    }
    return {**inherited, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(cwd / "prefect"), **environment}


def run(
    *arguments: str | Path, cwd: Path, prelude: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``cloudmask`` with ``arguments`` in ``cwd``, after the Python in ``prelude``; return how it ended."""
    with (
        TemporaryDirectory() as folder,
        forked(*arguments, cwd=cwd, folder=folder, prelude=prelude, **environment) as process,
    ):
        process.join(LIMIT_S)
        if process.exitcode is None:
            raise subprocess.TimeoutExpired(arguments, LIMIT_S)
        stdout, stderr = (Path(folder, name).read_text() for name in STREAMS)
        return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


@contextmanager
def forked(
    *arguments: str | Path, cwd: Path, folder: str | Path, prelude: str = "", **environment: str
) -> Iterator[ForkServerProcess]:
    """Start ``cloudmask`` as ``run`` does, its output going to files in ``folder``; kill it in the end."""
    streams = [Path(folder, name) for name in STREAMS]
    command = ["cloudmask", *map(str, arguments)]
    process = PROCESSES.Process(
        target=_become_command, args=(command, cwd, build_environment(cwd, environment), streams, prelude)
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _become_command(
    command: list[str], cwd: Path, environment: dict[str, str], streams: list[Path], prelude: str
) -> None:
    """Turn this fork into the command; an exception that nobody caught ends it as Python would."""
    gc.freeze()  # Looking through what the libraries made, again and again, took most of a short command's time.
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    try:
        exec(prelude, {})
        runpy.run_module("pc_cloudmask", run_name="__main__")
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


@contextmanager
def running(
    *arguments: str | Path, cwd: Path, prelude: str = "", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Start an interpreter for ``cloudmask``, and kill it in the end; it runs the Python in ``prelude`` first."""
    program = f"{prelude}\nfrom pc_cloudmask.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=cwd,
        env=build_environment(cwd, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_in_new_interpreter(
    *arguments: str | Path, cwd: Path, prelude: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``cloudmask`` as ``run`` does, in an interpreter that is started for it."""
    with running(*arguments, cwd=cwd, prelude=prelude, **environment) as process:
        stdout, stderr = process.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)
