"""Many small scenes side by side: by number of workers, and as a Prefect flow run.

A hundred scenes of 1098 x 1098 pixels, their inputs shared, into an empty directory on the local disk; scenes
a minute by the clock. What Prefect adds is the difference, scene by scene, between a flow run on its
ephemeral server and the same functions called directly, by as many workers; the server's start is apart.
Other work on the machine takes its share of both: the last row says how much was left.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.full_scene import repeat_item, write_items
from benchmarks.measure import Figure, Peer, Row, compare_costs, compare_rates, run_apart
from pc_cloudmask.demo.archive import build_sample_archive

SCENES = 100
RUNS = 3
WORKERS = (2, 4, 8)
PREFECT_WORKERS = 4
WARM_UP_SCENES = 4
BUSY_S = 2.0


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
    """Rates by number of workers against that of one; a scene with Prefect against one without."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = write_small_scenes(folder)
        free_cores = [measure_free_cores()]
        times = {
            workers: run_apart(partial(time_runs, items, folder / f"direct-{workers}", workers))
            for workers in (1, *WORKERS)
        }
        with_prefect = run_apart(partial(time_flow_runs, items, folder / "prefect", PREFECT_WORKERS))
        free_cores.append(measure_free_cores())
    cores_of_all = Peer("cores of the machine", float(os.cpu_count() or 1))
    return [
        *_compare_workers(times),
        *_compare_prefect(with_prefect, times[PREFECT_WORKERS]),
        compare_rates("cores that were free", Figure.of(free_cores), cores_of_all, "cores", None),
    ]


def _compare_workers(times: Mapping[int, Times]) -> list[Row]:
    one = Peer("1 worker", times[1].scenes_a_minute)
    return [
        compare_rates(
            f"{SCENES} small scenes, {workers} workers on {os.cpu_count()} cores",
            times[workers].scenes_a_minute,
            one,
            "scenes a minute",
            None,
        )
        for workers in WORKERS
    ]


def _compare_prefect(with_prefect: Times, direct: Times) -> list[Row]:
    added_ms = with_prefect.scene_ms.median - direct.scene_ms.median
    task = f"a small scene as a Prefect task, {PREFECT_WORKERS} workers: {added_ms:+.0f} ms"
    first = f"first run of {WARM_UP_SCENES} scenes, Prefect's server started"
    called = "called directly"
    return [
        compare_costs(task, with_prefect.scene_ms, Peer(called, direct.scene_ms), "ms", None),
        compare_costs(first, with_prefect.first_s, Peer(called, direct.first_s), "s", None),
    ]


def measure_free_cores() -> float:
    """CPU seconds a second that as many busy processes get as there are cores."""
    count = os.cpu_count() or 1
    with ProcessPoolExecutor(count) as pool:
        return sum(pool.map(_measure_share, range(count)))


def _measure_share(_: int) -> float:
    start, started = time.process_time(), time.perf_counter()
    while time.perf_counter() - started < BUSY_S:
        pass
    return (time.process_time() - start) / (time.perf_counter() - started)


def write_small_scenes(folder: Path) -> Path:
    """Return an ItemCollection of ``SCENES`` scenes made of the sample archive's, on days of their own."""
    archive = build_sample_archive(folder / "sample-archive")
    samples = json.loads(archive.read_bytes())["features"]
    days = -(-SCENES // len(samples))
    items = [item for sample in samples for item in repeat_item(sample, days)]
    return write_items(archive.with_name("many-items.json"), items[:SCENES])


def time_runs(items: Path, folder: Path, workers: int) -> Times:
    """Run without Prefect, in this process, each time into a new directory."""
    from pc_cloudmask.runs.context import RunContext  # noqa: PLC0415
    from pc_cloudmask.runs.ingest import ingest  # noqa: PLC0415 - not before the environment of the other process is set
    from pc_cloudmask.runs.request import IngestRequest  # noqa: PLC0415
    from pc_cloudmask.runs.runners import ThreadRunner  # noqa: PLC0415

    def run(store: Path, limit: int) -> None:
        request = IngestRequest(items=str(items), store=str(store), limit=limit)
        context = RunContext(request.read_settings(), request.items)
        report = ingest(context, request, ThreadRunner(workers))
        _check(len(report.published), limit)

    return _time(run, folder)


def time_flow_runs(items: Path, folder: Path, workers: int) -> Times:
    """Run the same as flow runs on an ephemeral server."""
    home = folder / "prefect-home"
    home.mkdir(parents=True)
    os.environ["PREFECT_HOME"] = str(home)
    os.environ["CLOUDMASK_WORKERS"] = str(workers)
    from pc_cloudmask.cli.ingest import quieten_prefect  # noqa: PLC0415

    quieten_prefect()  # before Prefect is imported: it reads the environment once
    from pc_cloudmask.flows.ingest import ingest_flow  # noqa: PLC0415
    from pc_cloudmask.runs.request import IngestRequest  # noqa: PLC0415

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
