"""How often a tile was seen without clouds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pc_cloudmask.catalog.search import PublishedItem
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import DECIMALS, RGB
from pc_cloudmask.raster.picture import INK, encode_figure, start_figure
from stac_ext.cloudmask import CLEAR_PERCENTAGE_PROP, NODATA_PERCENTAGE_PROP

#: Cloud and shadow that a scene may have and still count as cloud-free: a common choice in searches.
MAX_CLOUD_PCT = 20.0
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Brown to green, which also differ in lightness, for readers who do not see the hues.
_NONE_CLEAR, _ALL_CLEAR = (214, 182, 164), (120, 186, 128)
_EMPTY = (238, 240, 242)
#: Height and width of a month, and space for the title and the names of the months and rows, in inches.
_CELL, _TOP, _LEFT, _MARGIN = (0.32, 0.56), 0.75, 1.15, 0.15
#: matplotlib cannot draw a picture of 65536 rows of pixels.
_MOST_ROWS = 1500


@dataclass(frozen=True, slots=True)
class MonthOfTile:
    """The scenes of one tile in one month of one year.

    ``cloud_free`` of the ``scenes`` have little cloud and shadow. ``clear_views`` is how many complete
    views of the tile their clear pixels add up to: how often its average pixel was seen clear.
    """

    tile: str
    year: int
    month: int
    scenes: int
    cloud_free: int
    clear_views: float

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
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
    """Return the months that have scenes, by tile, then time."""

    def month_of(item: PublishedItem) -> tuple[str, int, int]:
        year, month = map(int, item.item["properties"]["datetime"].split("-")[:2])
        return (item.keys.year_keys.tile, year, month)

    months = []
    for (tile, year, month), group in groupby(sorted(items, key=month_of), month_of):
        shares = [_read_shares(item) for item in group]
        cloud_free = sum(round(100 - clear, DECIMALS) <= max_cloud_pct for clear, _ in shares)
        clear_views = sum(clear * (100 - nodata) / 100**2 for clear, nodata in shares)
        months.append(MonthOfTile(tile, year, month, len(shares), cloud_free, clear_views))
    return months


def _read_shares(item: PublishedItem) -> tuple[float, float]:
    """Return clear pixels in percent of the valid ones (0 if there are none), and no data in percent of all pixels."""
    properties = item.item["properties"]
    return properties.get(CLEAR_PERCENTAGE_PROP, 0.0), properties.get(NODATA_PERCENTAGE_PROP, 0.0)


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """A year: how many of how many, by month, 1 to 12."""

    label: str
    counts: Mapping[int, tuple[int, int]]


def blend_share(share: float) -> RGB:
    """Return the colour of a share, 0 to 1."""
    red, green, blue = (
        round(none + share * (all_ - none)) for none, all_ in zip(_NONE_CLEAR, _ALL_CLEAR, strict=True)
    )
    return (red, green, blue)


def draw_calendar(title: str, rows: Sequence[CalendarRow], ending: str = ".png") -> bytes:
    """Return a calendar as ``.png`` or ``.svg``: one line per row, one coloured cell per month.

    Raises:
        SettingsError: The extra ``charts`` is not installed, or there are more rows than a picture can have.
    """
    if len(rows) > _MOST_ROWS:
        raise SettingsError(
            f"--out: {len(rows)} lines are too many for a picture: choose by --tile or --datetime"
        )
    height, width = (len(rows) or 1) * _CELL[0], len(MONTHS) * _CELL[1]
    full_width, full_height = _LEFT + width + _MARGIN, _TOP + height + _MARGIN
    figure = start_figure(full_width, full_height)
    place = (_LEFT / full_width, _MARGIN / full_height, width / full_width, height / full_height)
    axes = figure.add_axes(place, frameon=False)
    counts = [[row.counts.get(month + 1, (0, 0)) for month in range(len(MONTHS))] for row in rows]
    cells = [[blend_share(some / all_) if all_ else _EMPTY for some, all_ in line] for line in counts]
    axes.imshow(cells or [[_EMPTY] * len(MONTHS)], aspect="auto")
    for line, of_year in enumerate(counts):
        for month, (some, all_) in enumerate(of_year):
            if all_:
                axes.text(month, line, f"{some}/{all_}", ha="center", va="center", color=INK, fontsize=9)
    axes.set_xticks(range(len(MONTHS)), MONTHS)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(length=0, labelcolor=INK, labelsize=9, labeltop=True, labelbottom=False)
    # White lines between the cells.
    axes.set_xticks([month - 0.5 for month in range(1, len(MONTHS))], minor=True)
    axes.set_yticks([line - 0.5 for line in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    figure.text(_MARGIN / full_width, 1 - _MARGIN / full_height, title, va="top", color=INK, fontsize=11)
    return encode_figure(figure, ending)
