"""What a month of masks costs, computed from the figures of `docs/benchmarks.md`.

`python deploy/costs.py` prints the tables of `deploy/costs.md`; a test sees that they are the same.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from math import ceil, cos, radians
from pathlib import Path

from pc_cloudmask.masking.classes import COARSE_PIXEL_M
from pc_cloudmask.masking.earth_engine.windows import PAIRING_CHUNK, plan_windows
from pc_cloudmask.scene.grid import Grid

BENCHMARKS = Path(__file__).parents[1] / "docs" / "benchmarks.md"

#: Two satellites pass every place within the swath of an orbit once in five days.
MONTH_DAYS, REPEAT_DAYS = 30, 5
#: Orbits of one repeat cycle, Sentinel-2's swath and tile: a tile where swaths overlap is seen more often.
ORBITS, SWATH_KM, TILE_KM, EQUATOR_KM = 143, 290, 109.8, 40_075
#: One search an hour over the last days finds what is late; each item found is looked up in the store.
RUNS_A_DAY, LOOK_BACK_DAYS, PAGE_ITEMS = 24, 11, 250
#: Monthly quotas of Earth Engine's non-commercial tiers.
QUOTAS_EECU_H = (150, 1_000, 100_000)
FULL_TILE = Grid("EPSG:32632", (20.0, 0.0, 600000.0, 0.0, -20.0, 5500020.0), (5490, 5490))


@dataclass(frozen=True)
class Area:
    """A number of tiles around a latitude."""

    name: str
    tiles: int
    latitude_deg: float

    @property
    def scenes(self) -> int:
        """Scenes in a month: the swaths that touch a tile, each as often as it comes back."""
        swaths = (SWATH_KM + TILE_KM) / (EQUATOR_KM / ORBITS * cos(radians(self.latitude_deg)))
        return round(self.tiles * swaths * MONTH_DAYS / REPEAT_DAYS)


AREAS = (
    Area("one tile at 47 degrees", 1, 47),
    Area("a country: 100 tiles at 47 degrees", 100, 47),
    Area("the globe's land: 20,000 tiles, as if at 30 degrees", 20_000, 30),
)


@dataclass(frozen=True)
class Figures:
    """What was measured for one scene of a full tile."""

    s2cloudless_cpu_s: float
    csmask_cpu_s: float
    mask_kb: float
    documents_kb: float
    store_requests: float


def read_figures(text: str) -> Figures:
    """Read the figures in our column of the benchmarks' tables."""

    def find(what: str, unit: str) -> float:
        row = re.search(rf"^\| {re.escape(what)}[^|]*\| ([\d,.]+)(?: \([^)]*\))? {unit} ", text, re.MULTILINE)
        if row is None:
            raise ValueError(f"docs/benchmarks.md has no figure in {unit} for: {what}")
        return float(row[1].replace(",", ""))

    return Figures(
        find("one scene of 5490 x 5490 px, item to published item", "CPU s"),
        find("csmask, 784 tiles", "CPU s"),
        find("its size", "kB"),
        find("bytes written beside the mask", "kB"),
        find("requests of publishing one item among 100,000", "requests"),
    )


def build_rows(area: Area, figures: Figures) -> list[tuple[str, str]]:
    """Return what the area costs in a month, by name."""
    scenes = area.scenes
    runs = RUNS_A_DAY * MONTH_DAYS
    found = scenes * LOOK_BACK_DAYS / MONTH_DAYS
    coarse = FULL_TILE.at_pixel_size(COARSE_PIXEL_M)
    pixels = sum(height * width for height, width in (FULL_TILE.shape, coarse.shape))
    windows = len(plan_windows(FULL_TILE)) + len(plan_windows(coarse))
    stored_kb = figures.mask_kb + figures.documents_kb
    return [
        ("scenes", _show(scenes)),
        ("STAC requests", _show(runs * max(1, ceil(found / PAGE_ITEMS)))),
        ("Earth Engine requests", _show(scenes * windows + ceil(scenes / PAIRING_CHUNK))),
        ("downloaded from Earth Engine", f"{_show(scenes * pixels / 1e9)} GB"),
        *(
            (f"EECU-seconds a scene that {quota:,} EECU-hours allow", _show(quota * 3600 / scenes))
            for quota in QUOTAS_EECU_H
        ),
        ("store: requests that publish", _show(scenes * figures.store_requests)),
        ("store: reads that find a scene published", _show(runs * found)),
        ("stored, a month more each month", f"{_show(scenes * stored_kb / 1e6)} GB"),
        ("core-hours, s2cloudless", _show(scenes * figures.s2cloudless_cpu_s / 3600)),
        ("core-hours, csmask", _show(scenes * figures.csmask_cpu_s / 3600)),
    ]


def build_table(figures: Figures) -> str:
    """Return a table with a column for each area."""
    columns = [dict(build_rows(area, figures)) for area in AREAS]
    lines = [["a month", *(area.name for area in AREAS)], ["---", *("---:" for _ in AREAS)]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _show(value: float) -> str:
    """Round to two significant digits; more would claim more than is known."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


if __name__ == "__main__":
    sys.stdout.write(build_table(read_figures(BENCHMARKS.read_text())))
