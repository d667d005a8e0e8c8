"""A fault of the environment is no fault of the scene: it ends the run, or the scene is tried again."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rasterio.errors import CRSError

from pc_cloudmask.catalog.states import StateKind, find_state, list_states
from pc_cloudmask.errors import (
    AssetDenied,
    AssetMissing,
    AssetRefused,
    AssetUnavailable,
    CloudmaskError,
    EngineDenied,
    EngineRefused,
    InvalidField,
    MachineError,
    MissingField,
    SettingsError,
    StoreObstructed,
    StoreRefused,
    WriteConflict,
)
from pc_cloudmask.raster.cog import NotOptimized
from pc_cloudmask.runs.candidate import Candidate, build_failure
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.report import SceneOutcome, SceneState
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import SceneWork, ThreadRunner
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import walk_catalog
from tests.direct_runs import run_directly
from tests.sample_archive import SAMPLE_IDS

pytestmark = pytest.mark.usefixtures("fixed_clock")


def raise_out_of_memory() -> None:
    """As GDAL and PROJ do: the lack of memory stands in the cause."""
    try:
        raise ValueError("SQLite error [ code=7 ]: out of memory")
    except ValueError as error:
        raise CRSError("the EPSG code is unknown") from error


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


SETUP_FAULTS: dict[str, tuple[Callable[[], None], type[CloudmaskError]]] = {
    "memory": (raising(MemoryError("cannot allocate 240 MB")), MachineError),
    "memory unsaid": (raising(MemoryError()), MachineError),
    "memory of PROJ": (raise_out_of_memory, MachineError),
    "memory of onnxruntime": (raising(RuntimeError("Failed to allocate memory for buffer")), MachineError),
    "memory of the loader": (raising(ImportError("x.so: failed to map segment")), MachineError),
    "threads": (raising(RuntimeError("can't start new thread")), MachineError),
    "disk": (raising(OSError(errno.ENOSPC, "No space left on device", "/tmp/x")), MachineError),
    "rights": (raising(PermissionError(errno.EACCES, "Permission denied", "/data")), MachineError),
    "files": (raising(OSError(errno.EMFILE, "Too many open files")), MachineError),
    "package": (raising(ModuleNotFoundError("No module named 'onnxruntime'")), MachineError),
    "sign-in": (raising(EngineDenied("the credentials were refused (invalid_grant)")), EngineDenied),
    "token service": (raising(AssetDenied("no token: HTTP 401")), AssetDenied),
    "bucket": (raising(StoreRefused("answered AccessDenied")), StoreRefused),
    "proxy": (raising(SettingsError("proxy http://p answers HTTP 407")), SettingsError),
}


@pytest.mark.parametrize(("fail", "kind"), SETUP_FAULTS.values(), ids=SETUP_FAULTS)
def test_a_fault_of_the_set_up_ends_the_run_and_is_noted_of_no_scene(
    candidates: list[Candidate], fail: Callable[[], None], kind: type[CloudmaskError]
) -> None:
    begun: list[Candidate] = []

    def work(candidate: Candidate) -> SceneOutcome:
        begun.append(candidate)
        if len(begun) == 2:
            fail()
        return SceneOutcome(candidate.scene.id, SceneState.PUBLISHED)

    outcomes = ThreadRunner(1, retry_delay_s=0).run_scenes(work, candidates)
    first = next(iter(outcomes))
    with pytest.raises(kind) as fault:
        list(outcomes)
    assert fault.value.ends_run
    assert "\n" not in str(fault.value)
    assert "()" not in str(fault.value)
    assert first.state is SceneState.PUBLISHED
    assert len(begun) == 2


def test_scenes_that_are_under_way_when_the_run_ends_are_told(candidates: list[Candidate]) -> None:
    def work(candidate: Candidate) -> SceneOutcome:
        if candidate is candidates[0]:
            raise EngineDenied("no right")
        return SceneOutcome(candidate.scene.id, SceneState.PUBLISHED)

    told: list[SceneOutcome] = []
    with pytest.raises(EngineDenied):
        told.extend(ThreadRunner(len(candidates), retry_delay_s=0).run_scenes(work, candidates))
    outcomes = ThreadRunner(2, retry_delay_s=0).run_scenes(work, candidates[:2])
    with pytest.raises(EngineDenied):
        told.extend(outcomes)
    assert all(outcome.state is SceneState.PUBLISHED for outcome in told)


@pytest.mark.parametrize(
    ("error", "proven"),
    [
        (MissingField("x", "properties.datetime"), True),
        (InvalidField("x", "id", "is odd"), True),
        (AssetRefused("another host"), True),
        (AssetMissing("HTTP 404"), False),
        (AssetUnavailable("no answer"), False),
        (EngineRefused("HTTP 400: what?"), False),
        (NotOptimized("the mask of x is not a cloud-optimised GeoTIFF"), False),
        (StoreObstructed("a file stands where a folder must be"), False),
        (WriteConflict("another writer"), False),
        (CRSError("the EPSG code is unknown"), False),
        (ConnectionResetError("by peer"), False),
        (IndexError("pop from empty list"), False),
        (AssertionError("ours"), False),
    ],
)
def test_only_what_is_proven_wrong_in_the_item_is_quarantined(error: Exception, proven: bool) -> None:
    outcome = build_failure("x", error)
    assert outcome.state is SceneState.FAILED
    assert outcome.retryable is not proven


class EndsEarly:
    """Publishes two scenes, finds a third out of reach, and then a fault of the set-up."""

    def run_scenes(self, work: SceneWork, candidates: Sequence[Candidate]) -> Iterator[SceneOutcome]:
        yield from map(work, candidates[:2])
        yield build_failure(candidates[2].scene.id, AssetMissing("HTTP 404"), candidates[2].fingerprint)
        raise EngineDenied("these credentials may not compute in project p")


@pytest.mark.slow
def test_what_was_done_before_a_run_ended_is_linked_and_noted(demo: IngestRequest, tmp_path: Path) -> None:
    request = demo.model_copy(update={"store": str(tmp_path / "out")})
    context = RunContext(request.read_settings(), request.items, request.now)
    with pytest.raises(EngineDenied):
        ingest(context, request, EndsEarly())
    store = open_store(str(tmp_path / "out"))
    assert len(walk_catalog(store).items) == 2
    (state,) = list_states(store)
    assert (state.kind, state.error_class, state.is_quarantined) == (StateKind.FAILED, "AssetMissing", False)
    report = run_directly(request)
    assert len(report.published) == len(SAMPLE_IDS) - 2
    assert list(list_states(store)) == []


OLD_STATE = {
    "attempts": 1,
    "first_try": "2024-01-01T00:00:00+00:00",
    "last_try": "2024-01-01T00:00:00+00:00",
    "next_try": None,
    "fingerprint": "1220ab",
}


@pytest.mark.parametrize("error_class", ["AssetRefused", "EngineRefused", "CRSError", "MissingField", ""])
def test_what_an_earlier_version_quarantined_comes_free(tmp_path: Path, error_class: str) -> None:
    store = open_store(str(tmp_path))
    document = {"id": SAMPLE_IDS[0], "reason": "HTTP 404", "error_class": error_class, **OLD_STATE}
    store.write_object(StateKind.FAILED.key(SAMPLE_IDS[0]), json.dumps(document).encode(), "application/json")
    state = find_state(store, StateKind.FAILED, SAMPLE_IDS[0])
    assert state is not None
    assert not state.is_quarantined
    assert state.is_due(state.last_try)
    assert state.is_due(state.last_try + timedelta(days=999))
    assert not replace(state, proven=True).is_due(state.last_try + timedelta(days=999))
