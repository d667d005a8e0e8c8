"""What a benchmark measures, in rows that can be set side by side."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of ours beside that of a peer.

    ``ratio`` says how many times better ours is, ``target`` how many times it has to be.
    """

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    target: float

    @property
    def met(self) -> bool:
        """Whether the ratio reaches its target."""
        return self.ratio >= self.target


@dataclass(frozen=True, slots=True)
class Peer:
    """What ours is compared with: another package, or a budget."""

    name: str
    figure: float


def compare_costs(name: str, ours: float, peer: Peer, unit: str, target: float) -> Row:
    """The row of a figure that is better the smaller it is."""
    return Row(name, ours, peer.figure, peer.name, unit, peer.figure / ours, target)


def measure_cpu_ms(run: Callable[[], object], repeats: int = 9) -> float:
    """CPU time of one run in ms, over all threads: the median of ``repeats``, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


def measure_peak_mb(run: Callable[[], object]) -> float:
    """Most memory that one run allocates at a time, its result included, in MB of 10**6 bytes.

    Counts what goes through Python's and numpy's allocators.
    """
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def format_rows(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | ours | peer | | ratio | target |", "| --- | ---: | ---: | --- | ---: | ---: |"]
    for row in rows:
        verdict = "" if row.met else " (missed)"
        lines.append(
            f"| {row.name} | {row.ours:.4g} {row.unit} | {row.peer:.4g} {row.unit} | {row.peer_name} "
            f"| {row.ratio:.1f}x | {row.target:g}x{verdict} |"
        )
    return "\n".join(lines)
