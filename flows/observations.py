"""How often a tile was seen without clouds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from flows.masking.statistics import DECIMALS
from flows.search import PublishedItem
from stac_ext.cloudmask import CLEAR_PERCENTAGE_PROP, NODATA_PERCENTAGE_PROP

MAX_CLOUD_PCT = 20.0
"""Cloud and shadow that a scene may have to count as cloud-free: what searches commonly ask for."""


@dataclass(frozen=True, slots=True)
class MonthOfTile:
    """The scenes of one tile in one month of one year.

    ``cloud_free`` of the ``scenes`` have little cloud and shadow. ``clear_views`` is how many whole
    views of the tile their clear pixels add up to: how often its average pixel was seen clear.
    """

    tile: str
    year: int
    month: int
    scenes: int
    cloud_free: int
    clear_views: float

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tile": self.tile,
            "month": f"{self.year:04d}-{self.month:02d}",
            "scenes": self.scenes,
            "cloud_free": self.cloud_free,
            "clear_views": round(self.clear_views, 3),
        }


def count_observations(
    items: Iterable[PublishedItem], max_cloud_pct: float = MAX_CLOUD_PCT
) -> list[MonthOfTile]:
    """The months that have scenes, by tile, then time."""

    def month_of(item: PublishedItem) -> tuple[str, int, int]:
        year, month = map(int, item.item["properties"]["datetime"].split("-")[:2])
        return (item.keys.leaf.tile, year, month)

    months = []
    for (tile, year, month), group in groupby(sorted(items, key=month_of), month_of):
        shares = [_read_shares(item) for item in group]
        cloud_free = sum(round(100 - clear, DECIMALS) <= max_cloud_pct for clear, _ in shares)
        clear_views = sum(clear * (100 - nodata) / 100**2 for clear, nodata in shares)
        months.append(MonthOfTile(tile, year, month, len(shares), cloud_free, clear_views))
    return months


def _read_shares(item: PublishedItem) -> tuple[float, float]:
    """Clear pixels in percent of the valid ones, 0 where none is; pixels without data in percent of all."""
    properties = item.item["properties"]
    return properties.get(CLEAR_PERCENTAGE_PROP, 0.0), properties.get(NODATA_PERCENTAGE_PROP, 0.0)
