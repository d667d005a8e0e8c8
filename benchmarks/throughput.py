"""A queue of full tiles through an Earth Engine that answers after three seconds.

One process with default settings, method s2cloudless, four requests per scene of 5490 x 5490 pixels. The service is a
process of its own on this machine, with pixels made beforehand. The ideal is what the quota allows: requests x 3 s /
40. Time is by the clock, from the search for items to the linked catalog in a local directory. Peak memory is the
process's, its libraries included. *Bears 10*: the service answers 429 to whatever exceeds ten at once, and the ideal is
that of ten. *Bursts*: every twenty seconds it refuses everything for two; the ideal is that without bursts. A refusal
while fewer requests are in flight than were served before is taken for a temporary one: no request begins for 1, 2, 4
s, and the limit stays. On a machine half as fast, the processor is the limit: 38 of 40 were in flight, at a ratio of
0.909.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

from benchmarks.canned_engine import SAMPLE_S, Behaviour, Log, running_canned_engine
from benchmarks.full_scene import Item, repeat_item, write_items
from benchmarks.measure import Peer, Row, compare_costs, compare_rates, read_peak_resident_mb, run_apart
from pc_cloudmask.demo.archive import build_sample_archive
from pc_cloudmask.source.item import read_scene

SCENES, SCENES_OF_TEN = 320, 80
QUOTA = 40
IN_FLIGHT_TARGET, RATIO_TARGET, MEMORY_BUDGET_MB = 36, 0.9, 1500.0
FULL_TILE_PX, PIXEL_M = 5490, 20
#: Of the curve that is shown.
SHOWN_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a run took, and what the service saw of it."""

    seconds: float
    cpu_s: float
    peak_mb: float
    scenes: int
    log: Log


def measure() -> list[Row]:
    """Compare with the ideal: with the quota's forty requests, with ten, and with bursts of refusals."""
    rows: list[Row] = []
    for name, behaviour, scenes, target in (
        ("40 at once", Behaviour(), SCENES, RATIO_TARGET),
        ("bears 10", Behaviour(bears=10), SCENES_OF_TEN, RATIO_TARGET),
        ("bursts", Behaviour(burst_every_s=20.0), SCENES, None),
    ):
        rows += compare_run(name, behaviour, measure_run(behaviour, scenes), target)
    return rows


def compare_run(name: str, behaviour: Behaviour, run: Run, target: float | None) -> list[Row]:
    """Return the rows of one run."""
    ideal_s = run.log.answered * behaviour.latency_s / behaviour.bears
    samples = run.log.in_flight
    # Between the first pairing and the last scene: from when forty could be in flight until the queue is empty.
    busy = samples[round(2 * behaviour.latency_s / SAMPLE_S) : -round(2 * behaviour.latency_s / SAMPLE_S)]
    step = round(SHOWN_EVERY_S / SAMPLE_S)
    curve = " ".join(str(round(mean(samples[at : at + step]))) for at in range(0, len(samples), step))
    quota = Peer("quota", float(behaviour.bears))
    in_flight_target = None if target is None else IN_FLIGHT_TARGET / QUOTA
    return [
        compare_rates(
            f"{name}: in flight, each {SHOWN_EVERY_S:.0f} s: {curve}",
            mean(busy),
            quota,
            "requests",
            in_flight_target,
        ),
        compare_costs(
            f"{name}: {run.scenes} scenes in {run.log.answered} requests, {run.log.refused} refused",
            run.seconds,
            Peer("ideal", ideal_s),
            "s",
            target,
        ),
        compare_rates(
            f"{name}: scenes an hour",
            run.scenes * 3600 / run.seconds,
            Peer("ideal", run.scenes * 3600 / ideal_s),
            "scenes",
            None,
        ),
        compare_costs(f"{name}: CPU of a scene", run.cpu_s / run.scenes, Peer("budget", 0.6), "s", None),
        compare_rates(
            f"{name}: received",
            run.log.sent_bytes / run.scenes / 1e6,
            Peer("uncompressed", 31.35),
            "MB a scene",
            None,
        ),
        compare_costs(f"{name}: peak memory", run.peak_mb, Peer("budget", MEMORY_BUDGET_MB), "MB", 1),
    ]


def measure_run(behaviour: Behaviour, scenes: int, **settings: str) -> Run:
    """Publish ``scenes`` in a process of their own; ``settings`` are further variables of the environment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = build_items(folder, scenes)
        path = write_items(folder / "items.json", items)
        with running_canned_engine(replace(behaviour, grid=read_scene(items[0]).grid)) as (url, stop):
            seconds, cpu_s, peak_mb = run_apart(partial(ingest_all, path, folder / "store", url, settings))
            return Run(seconds, cpu_s, peak_mb, scenes, stop())


def build_items(folder: Path, count: int) -> list[Item]:
    """Return items of full tiles without a cloud probability of their own, on days that follow each other."""
    archive = build_sample_archive(folder / "sample-archive")
    item: Item = json.loads(archive.read_bytes())["features"][0]
    assets = {}
    for key, pixel_m in (("B08", 10), ("SCL", PIXEL_M)):
        asset = dict(item["assets"][key])
        side = FULL_TILE_PX * PIXEL_M // pixel_m
        assets[key] = asset | {"href": str(archive.parent / asset["href"]), "proj:shape": [side, side]}
    return repeat_item({**item, "assets": assets, "links": []}, count)


def ingest_all(items: Path, store: Path, url: str, settings: dict[str, str]) -> tuple[float, float, float]:
    """Return the seconds of an ingest by the clock and the processor, and the process's peak memory in MB."""
    os.environ.update(
        CLOUDMASK_EARTHENGINE_URL=url,
        CLOUDMASK_EARTHENGINE_PROJECT="p",
        CLOUDMASK_EARTHENGINE_CREDENTIALS="anonymous",
        **settings,
    )
    from pc_cloudmask.runs.context import RunContext  # noqa: PLC0415 - not before the environment is set
    from pc_cloudmask.runs.request import IngestRequest  # noqa: PLC0415
    from pc_cloudmask.runs.watch import run_directly  # noqa: PLC0415

    request = IngestRequest(items=str(items), store=str(store))
    started, cpu_started = time.monotonic(), time.process_time()
    report = run_directly(RunContext.of(request), request)
    seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu_started
    if report.failed or report.waiting:
        raise RuntimeError(f"{report.summary}: {(*report.failed, *report.waiting)[0].reason}")
    sys.stderr.write(f"{report.summary}, {report.transfer}\n")
    return seconds, cpu_s, read_peak_resident_mb()
