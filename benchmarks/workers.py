"""Many small scenes side by side: by number of workers, and as a Prefect flow run.

A hundred scenes of 1098 x 1098 pixels, their inputs shared, into an empty directory on the local disk; scenes
a minute by the clock. What Prefect adds is the difference, scene by scene, between a flow run on its
ephemeral server and the same functions called directly, by as many workers; the server's start is apart.
Other work on the machine takes its share of both.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.full_scene import repeat_item, write_items
from benchmarks.measure import Figure, Peer, Row, compare_costs, compare_rates, run_apart
from flows.adapters.local_scenes import build_sample_archive

SCENES = 100
RUNS = 3
WORKERS = (2, 4, 8)
PREFECT_WORKERS = 4
WARM_UP_SCENES = 4


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each run of ``SCENES`` scenes, and of the run before them, to warm up."""

    runs_s: list[float]
    first_s: float

    @property
    def scenes_a_minute(self) -> Figure:
        """Scenes that are published in a minute."""
        return Figure.of([SCENES * 60 / seconds for seconds in self.runs_s])

    @property
    def scene_ms(self) -> Figure:
        """Milliseconds of a scene."""
        return Figure.of([seconds * 1e3 / SCENES for seconds in self.runs_s])


def measure() -> list[Row]:
    """Rates by number of workers beside that of one; a scene with Prefect beside one without."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = write_small_scenes(folder)
        times = {
            workers: run_apart(partial(time_runs, items, folder / f"direct-{workers}", workers))
            for workers in (1, *WORKERS)
        }
        with_prefect = run_apart(partial(time_flow_runs, items, folder / "prefect", PREFECT_WORKERS))
    one, four = times[1].scenes_a_minute, times[PREFECT_WORKERS].scene_ms
    cores = f"{os.cpu_count()} cores"
    rows = [
        compare_rates(
            f"{SCENES} small scenes, {workers} workers on {cores}",
            times[workers].scenes_a_minute,
            Peer("1 worker", one),
            "scenes a minute",
            None,
        )
        for workers in WORKERS
    ]
    added_ms = with_prefect.scene_ms.median - four.median
    rows.append(
        compare_costs(
            f"a small scene as a Prefect task, {PREFECT_WORKERS} workers: {added_ms:+.0f} ms",
            with_prefect.scene_ms,
            Peer("called directly", four),
            "ms",
            None,
        )
    )
    rows.append(
        compare_costs(
            f"first run of {WARM_UP_SCENES} scenes, Prefect's server started",
            with_prefect.first_s,
            Peer("called directly", times[PREFECT_WORKERS].first_s),
            "s",
            None,
        )
    )
    return rows


def write_small_scenes(folder: Path) -> Path:
    """An ItemCollection of ``SCENES`` scenes made of the sample archive's, on days of their own."""
    archive = build_sample_archive(folder / "sample-archive")
    samples = json.loads(archive.read_bytes())["features"]
    days = -(-SCENES // len(samples))
    items = [item for sample in samples for item in repeat_item(sample, days)]
    return write_items(archive.with_name("many-items.json"), items[:SCENES])


def time_runs(items: Path, folder: Path, workers: int) -> Times:
    """Runs without Prefect, in this process, each into a new directory."""
    from flows.ingest import ingest  # noqa: PLC0415 - not before the environment of the other process is set
    from flows.request import IngestRequest  # noqa: PLC0415
    from flows.runners import ThreadRunner  # noqa: PLC0415
    from flows.wiring import Wiring  # noqa: PLC0415

    def run(store: Path, limit: int) -> None:
        request = IngestRequest(items=str(items), store=str(store), limit=limit)
        wiring = Wiring(request.read_settings(), request.items)
        report = ingest(wiring, request.read_query(), ThreadRunner(workers))
        _check(len(report.published), limit)

    return _time(run, folder)


def time_flow_runs(items: Path, folder: Path, workers: int) -> Times:
    """The same as flow runs on an ephemeral server."""
    home = folder / "prefect-home"
    home.mkdir(parents=True)
    os.environ["PREFECT_HOME"] = str(home)
    os.environ["CLOUDMASK_WORKERS"] = str(workers)
    from flows.cli.prefect_environment import quieten_prefect  # noqa: PLC0415

    quieten_prefect()  # before Prefect is imported: it reads the environment once
    from flows.prefect_runs import ingest_flow  # noqa: PLC0415
    from flows.request import IngestRequest  # noqa: PLC0415

    def run(store: Path, limit: int) -> None:
        report = ingest_flow(IngestRequest(items=str(items), store=str(store), limit=limit))
        _check(len(report.published), limit)

    return _time(run, folder)


def _time(run: Callable[[Path, int], None], folder: Path) -> Times:
    seconds = []
    for number, limit in enumerate([WARM_UP_SCENES] + [SCENES] * RUNS):
        start = time.perf_counter()
        run(folder / str(number), limit)
        seconds.append(time.perf_counter() - start)
    return Times(seconds[1:], seconds[0])


def _check(published: int, expected: int) -> None:
    if published != expected:
        raise RuntimeError(f"{published} of {expected} scenes were published")
