"""What a scene costs that does nothing: threads, Dask, Prefect.

Two thousand candidates, each of whose work returns at once, through each runner with two workers: what is
left is the runner's own. Threads and Dask as without Prefect; a Prefect task in threads, on an ephemeral
server, of a tenth as many. Memory is this process's peak over the imports and the candidates; Dask's workers
have processes of their own.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.full_scene import repeat_item
from benchmarks.measure import (
    Figure,
    Peer,
    Row,
    compare_costs,
    read_peak_resident_mb,
    read_resident_mb,
    run_apart,
)

SCENES = 2000
PREFECT_SCENES = 200
RUNS = 3
WORKERS = 2
Cost = tuple[list[float], float]
"""Milliseconds of a scene in each run; peak memory in MB of 10**6 bytes."""


def measure() -> list[Row]:
    """Overheads against that of threads, memory against a budget."""
    with tempfile.TemporaryDirectory() as name:
        threads_ms, threads_mb = run_apart(partial(time_runner, "threads", SCENES))
        dask_ms, dask_mb = run_apart(partial(time_runner, "dask", SCENES))
        prefect_ms, _ = run_apart(partial(time_prefect, Path(name), PREFECT_SCENES))
    in_threads = Peer("in threads", Figure.of(threads_ms))
    return [
        compare_costs("a scene on Dask, two workers", Figure.of(dask_ms), in_threads, "ms", None),
        compare_costs("a scene as a Prefect task", Figure.of(prefect_ms), in_threads, "ms", None),
        compare_costs(
            f"peak memory of {SCENES}, on Dask", dask_mb, Peer("in threads", threads_mb), "MB", None
        ),
    ]


def do_nothing(candidate: Any) -> Any:
    """Return the outcome of a scene that is published without any work."""
    from pc_cloudmask.runs.report import SceneOutcome, SceneState  # noqa: PLC0415 - not before the environment is set

    return SceneOutcome(candidate.scene.id, SceneState.PUBLISHED)


def time_runner(kind: str, count: int) -> Cost:
    """One of the direct runners."""
    from pc_cloudmask.runs.runners import ThreadRunner  # noqa: PLC0415

    candidates = build_candidates(count)

    def open_runner() -> AbstractContextManager[Any]:
        if kind == "threads":
            return nullcontext(ThreadRunner(WORKERS))
        from pc_cloudmask.runs.runners import open_dask_runner  # noqa: PLC0415

        return open_dask_runner(WORKERS)

    with open_runner() as runner:
        return time_scenes(runner, candidates)


def time_prefect(home: Path, count: int) -> Cost:
    """Prefect's tasks, within a flow run."""
    os.environ["PREFECT_HOME"] = str(home)
    from pc_cloudmask.cli.ingest import quieten_prefect  # noqa: PLC0415

    quieten_prefect()  # before Prefect is imported: it reads the environment once
    from prefect import flow  # noqa: PLC0415

    from pc_cloudmask.flows.tasks import Limits, open_prefect_runner  # noqa: PLC0415
    from pc_cloudmask.settings import Settings  # noqa: PLC0415

    candidates = build_candidates(count)

    @flow(name="overhead", persist_result=False)
    def run_all() -> Cost:
        with open_prefect_runner(Settings(workers=WORKERS), Limits()) as runner:
            return time_scenes(runner, candidates)

    return run_all()


def time_scenes(runner: Any, candidates: Sequence[Any]) -> Cost:
    """Return the runner's costs, after some scenes to warm up."""
    # Let the kernel forget what making the candidates took at its peak.
    Path("/proc/self/clear_refs").write_text("5")
    before_mb = read_resident_mb()
    take(runner.run_scenes(do_nothing, candidates[:20]), 20)
    costs_ms = []
    for _ in range(RUNS):
        started = time.perf_counter()
        take(runner.run_scenes(do_nothing, candidates), len(candidates))
        costs_ms.append(1e3 * (time.perf_counter() - started) / len(candidates))
    return costs_ms, max(0.0, read_peak_resident_mb() - before_mb)


def take(outcomes: Iterator[Any], expected: int) -> None:
    """Every outcome, in whatever order."""
    count = len({outcome.id for outcome in outcomes if outcome.state == "published"})
    if count != expected:
        raise RuntimeError(f"{count} of {expected} scenes ended")


def build_candidates(count: int) -> list[Any]:
    """Candidates on days of their own."""
    from pc_cloudmask.demo.archive import build_sample_archive  # noqa: PLC0415
    from pc_cloudmask.masking.classes import MaskParameters  # noqa: PLC0415
    from pc_cloudmask.runs.candidate import read_candidates  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        archive = build_sample_archive(Path(name))
        sample = json.loads(archive.read_bytes())["features"][0]
    return read_candidates(repeat_item(sample, count), {"s2cloudless": MaskParameters()})[0]
