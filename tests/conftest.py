"""Fixtures that every folder of tests may use.

What a fixture needs is imported when a test first asks for it, so that a focused run starts at once.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pc_cloudmask.runs.candidate import Candidate
    from pc_cloudmask.runs.request import IngestRequest
    from tests.doubles.earth_engine.server import LocalEarthEngine
    from tests.doubles.s3_server import S3Server
    from tests.offline_validator import OfflineValidator

# Where this is set, as in many container images, each of the hundreds of processes of a full run compiles every module
# that it imports: most of what such a process costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@cache
def load_hypothesis_profile() -> None:
    """Let hypothesis take its time, for a slow machine is no failure; CI tries the same examples every time."""
    from hypothesis import HealthCheck, settings

    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("default", patient)
    settings.register_profile("ci", patient, derandomize=True)
    settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Import hypothesis only for modules that use it: it takes most of a second, a focused run not much more."""
    if b"hypothesis" in module_path.read_bytes():
        load_hypothesis_profile()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector the half million objects of imported modules, which live as long as the tests.

    Looking through them again and again took a fifth of a full run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


#: Files that share what is dear to start, and so a process.
TOGETHER = {
    f"tests/flows/test_{name}.py": "the Prefect server" for name in ("access", "deployments", "service")
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with slow tests first: what is left for the end is short, and no process waits for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give out files in the order in which they were collected, those of ``TOGETHER`` to one process."""
    from xdist.scheduler import LoadFileScheduling

    class FilesInOrder(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    config.option.loadscopereorder = False
    return FilesInOrder(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real items, a real chip, extension schemas; they stand beside the checkout, not in it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the reference data is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def stac_validator() -> OfflineValidator:
    """Validate any STAC document without a network."""
    from tests.offline_validator import OfflineValidator

    return OfflineValidator(SHARED_DATA / "stac-schemas")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all processes of this run of the tests read: whoever comes first makes it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Keep other processes out of what is done under the lock file at ``path``."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def sample_items(made_once: Path) -> Path:
    """Path of the sample archive's ItemCollection; tests leave the archive as it is."""
    from pc_cloudmask.demo.archive import build_sample_archive

    with one_at_a_time(made_once / "sample-archive.lock"):
        return build_sample_archive(made_once / "sample-archive")


@pytest.fixture
def served_items(sample_items: Path) -> Iterator[str]:
    """URL of the sample archive's items: a bucket takes none whose assets are local files."""
    from tests.doubles.range_server import RangeServer

    with RangeServer(sample_items.parent) as server:
        yield f"{server.url}/{sample_items.name}"


@pytest.fixture(scope="session")
def published_demo(made_once: Path, sample_items: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's store, the sample scenes and their sources; tests leave it as it is."""
    from tests.published_demo import copy_catalog, publish_demo

    published = made_once / "published-demo"
    with one_at_a_time(made_once / "published-demo.lock"):
        if not published.exists():
            publish_demo(made_once / "demo" / "out", sample_items).rename(published)
    return copy_catalog(published, tmp_path_factory.mktemp("published-demo") / "out")


@pytest.fixture
def fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's runs, and the commands that it starts, read the same time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="session")
def demo(published_demo: Path) -> IngestRequest:
    """The demo's request after it ran once; tests leave its store as it is."""
    from pc_cloudmask.demo.demo import build_demo_request

    return build_demo_request(None, published_demo)


@pytest.fixture
def out(published_demo: Path) -> Path:
    """The demo's store."""
    return published_demo


@pytest.fixture
def candidates(demo: IngestRequest) -> list[Candidate]:
    """The sample scenes."""
    from tests.direct_runs import read_sample_candidates

    return read_sample_candidates(demo)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the session; every test makes a bucket of its own."""
    from tests.doubles.s3_server import running_s3_server

    with running_s3_server() as server:
        yield server


@pytest.fixture
def earth_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEarthEngine]:
    """A running Earth Engine with empty collections; the client's state is cleared after the test."""
    from tests.doubles.earth_engine.fixtures import running_earth_engine

    with running_earth_engine(monkeypatch) as engine:
        yield engine


@pytest.fixture
def client(earth_engine: LocalEarthEngine) -> Any:
    """The ``ee`` module, initialised on the server."""
    from tests.doubles.earth_engine.fixtures import initialise_client

    return initialise_client(earth_engine)


FIGURES: list[str] = []


@pytest.fixture
def figures() -> list[str]:
    """Lines that the tests' report ends with: what was measured, never asserted."""
    return FIGURES


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process among several hands its lines to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = FIGURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    FIGURES.extend(node.workeroutput.get("figures", []) if hasattr(node, "workeroutput") else [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)
