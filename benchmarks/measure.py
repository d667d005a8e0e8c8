"""What a benchmark measures, in rows that can be set side by side."""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value: the median of some runs, with the least and the greatest of them."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Return the figure of at least one run."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Peer:
    """What ours is compared with: another package, or a budget."""

    name: str
    figure: Figure | float


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of ours and that of a peer.

    ``ratio`` says how many times better the median of ours is, ``target`` how many times it has to be;
    None where nothing was promised.
    """

    name: str
    ours: Figure
    peer: Figure
    peer_name: str
    unit: str
    ratio: float
    target: float | None

    @property
    def met(self) -> bool:
        """Whether the ratio, to a thousandth, reaches its target."""
        return self.target is None or round(self.ratio, 3) >= self.target


def compare_costs(name: str, ours: Figure | float, peer: Peer, unit: str, target: float | None) -> Row:
    """Return the row of a figure that is better the smaller it is."""
    our_figure, peer_figure = _figure(ours), _figure(peer.figure)
    ratio = peer_figure.median / our_figure.median if our_figure.median else float("inf")
    return Row(name, our_figure, peer_figure, peer.name, unit, ratio, target)


def compare_rates(name: str, ours: Figure | float, peer: Peer, unit: str, target: float | None) -> Row:
    """Return the row of a figure that is better the greater it is."""
    our_figure, peer_figure = _figure(ours), _figure(peer.figure)
    return Row(name, our_figure, peer_figure, peer.name, unit, our_figure.median / peer_figure.median, target)


def measure_cpu_ms(run: Callable[[], object], repeats: int = 9) -> Figure:
    """CPU time of a run in ms, over all threads, after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append((time.process_time() - start) * 1e3)
    return Figure.of(times)


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


def run_apart(run: Callable[[], T]) -> T:
    """Return what ``run`` gives in a new process, whose memory and imports are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run).result()


def read_resident_mb() -> float:
    """Memory of this process now, its libraries included (Linux)."""
    return _read_status_mb("VmRSS")


def read_peak_resident_mb() -> float:
    """Most memory that this process has had, its libraries included (Linux)."""
    return _read_status_mb("VmHWM")


def format_rows(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table whose columns are aligned."""
    header = ["what", "ours", "peer or budget", "ratio", "target", ""]
    cells = [header, *map(_format_row, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in (header, rule, *cells[1:])
    )


def _format_row(row: Row) -> list[str]:
    target = "" if row.target is None else f"≥ {row.target:.3g}x"
    verdict = "" if row.target is None else "met" if row.met else "missed"
    peer = f"{_format_figure(row.peer)} {row.unit}, {row.peer_name}"
    ratio = "" if math.isinf(row.ratio) else f"{_format_number(row.ratio)}x"
    return [row.name, f"{_format_figure(row.ours)} {row.unit}", peer, ratio, target, verdict]


def _format_figure(figure: Figure) -> str:
    if figure.least == figure.greatest:
        return _format_number(figure.median)
    spread = f"{_format_number(figure.least)}–{_format_number(figure.greatest)}"
    return f"{_format_number(figure.median)} ({spread})"


def _format_number(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _figure(value: Figure | float) -> Figure:
    return value if isinstance(value, Figure) else Figure(value, value, value)


def _read_status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")
