"""One scene of a full tile, from item to published item, compared with the usual libraries.

Everything local: the near infrared, scene classes and cloud probability are read from COGs of 10 m and
20 m, and mask, COG, preview, item and catalogs go to an S3 server of its own process, whose CPU time does
not count. The peer does the same job with `scipy.ndimage`, `rio_cogeo.cog_translate` and `pystac`, and reads
through the same overviews. Each run publishes another scene into the same catalog; two come before, to
warm up. Peak memory is the process's over all scenes, less what it has once all libraries are imported.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.full_scene import Item, repeat_item, write_full_scene, write_items
from benchmarks.measure import (
    Figure,
    Peer,
    Row,
    compare_costs,
    compare_rates,
    read_peak_resident_mb,
    read_resident_mb,
    run_apart,
)
from pc_cloudmask.runs.request import IngestRequest
from tests.doubles.s3_server import S3Server, running_s3_server

WARM_UP_RUNS, RUNS = 2, 9
SPEED_TARGET = 10.0
CPU_BUDGET_S, MEMORY_BUDGET_MB, SCENES_AN_HOUR = 0.6, 200.0, 6000.0


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of each scene over all threads, and peak memory over the imports in MB of 10**6 bytes."""

    cpu_s: list[float]
    peak_mb: float


def measure() -> list[Row]:
    """CPU time against the peer and the budget, peak memory against the budget."""
    with tempfile.TemporaryDirectory() as name, running_s3_server() as server:
        folder = Path(name)
        item = run_apart(partial(write_full_scene, folder))
        items = repeat_item(item, WARM_UP_RUNS + RUNS)
        path = write_items(folder / "items.json", items)
        requests = [IngestRequest(items=str(path), ids=(item["id"],)) for item in items]
        ours = run_apart(partial(measure_ours, server, requests))
        together = run_apart(partial(measure_ours, server, [IngestRequest(items=str(path))]))
        peer = run_apart(partial(measure_naive, server, items))
    cpu_s = Figure.of(ours.cpu_s[WARM_UP_RUNS:])
    an_hour = Figure(3600 / cpu_s.median, 3600 / cpu_s.greatest, 3600 / cpu_s.least)
    naive = Peer("scipy, rio-cogeo, pystac", Figure.of(peer.cpu_s[WARM_UP_RUNS:]))
    what = "one scene of 5490 x 5490 px, item to published item"
    peak = f"peak memory of {len(items)} in a row, over the imports"
    return [
        compare_costs(what, cpu_s, naive, "CPU s", SPEED_TARGET),
        compare_costs(what, cpu_s, Peer("budget", CPU_BUDGET_S), "CPU s", 1),
        compare_rates("scenes an hour on one core", an_hour, Peer("budget", SCENES_AN_HOUR), "scenes", 1),
        compare_costs(peak, together.peak_mb, Peer(naive.name, peer.peak_mb), "MB", None),
        compare_costs(peak, together.peak_mb, Peer("budget", MEMORY_BUDGET_MB), "MB", 1),
    ]


def measure_ours(server: S3Server, requests: list[IngestRequest]) -> Cost:
    """Do the job for each request, in this process."""
    from pc_cloudmask.runs.context import RunContext  # noqa: PLC0415
    from pc_cloudmask.runs.ingest import Ingestion  # noqa: PLC0415 - not in the peer's process
    from pc_cloudmask.runs.report import build_report  # noqa: PLC0415
    from pc_cloudmask.runs.runners import ThreadRunner  # noqa: PLC0415
    from pc_cloudmask.settings import read_settings  # noqa: PLC0415

    os.environ.update(server.environment())
    context = RunContext(read_settings(store=f"s3://{server.create_bucket()}/masks"), requests[0].items)
    _ = context.engines, context.publisher  # every adapter with its libraries

    def publish(request: IngestRequest) -> None:
        # Not by ``ingest``, which publishes no items of local files into a bucket.
        ingestion = Ingestion(context, ThreadRunner(1))
        ingestion.begin()
        ingestion.publish(context.source.find_items(request.read_query()))
        report = build_report(ingestion.outcomes, 0.0)
        if not report.published or report.failed:
            raise RuntimeError(f"not published: {report.as_json()}")

    return _measure_runs([partial(publish, request) for request in requests])


def measure_naive(server: S3Server, items: list[Item]) -> Cost:
    """Do the same job the usual way, in this process."""
    from benchmarks.naive import NaivePipeline  # noqa: PLC0415 - not in the process that measures ours

    os.environ.update(server.environment())
    pipeline = NaivePipeline(server.create_bucket())
    return _measure_runs([partial(pipeline.publish, item) for item in items])


def _measure_runs(runs: list[Callable[[], None]]) -> Cost:
    imported_mb = read_resident_mb()
    # Let the kernel forget what importing took at its peak.
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    cpu_s = []
    for run in runs:
        start = time.process_time()
        run()
        cpu_s.append(time.process_time() - start)
    return Cost(cpu_s, read_peak_resident_mb() - imported_mb)
