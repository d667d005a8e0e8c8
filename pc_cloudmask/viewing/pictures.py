"""Pictures of masks: one drawn on its scene, a calendar of cloud-free scenes, a chart of when an area was clear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pystac

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import CLASS_STYLES, RGB, MaskClass
from pc_cloudmask.masking.files import draw_outlines, read_true_colour, reduce_classes
from pc_cloudmask.raster.picture import INK, LINE, UNKNOWN, encode_figure, encode_picture, start_figure
from pc_cloudmask.scene.grid import Shape
from pc_cloudmask.source.assets import build_reader
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.viewing.clear import ClearScene
from pc_cloudmask.viewing.library import MonthOfTile, find_mask_grid, read_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class View:
    """A PNG of a scene in true colour, its clouds and shadows outlined; ``shape`` is in pixels."""

    png: bytes = field(repr=False)
    shape: Shape

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return self.png


def draw_view(item: pystac.Item, size_px: int = 1098, files: Path | None = None) -> View:
    """Return the view of a published item, with its longer edge at most ``size_px``, by default a full tile at 100 m.

    ``files`` is the folder below which local source files may be read, by default that of the catalog.

    Raises:
        MissingField: The item has neither a picture nor the bands B04, B03 and B02.
        AssetUnavailable, AssetRefused: The picture, or the mask, cannot be read.
        StoreRefused, StoreUnavailable: The mask is missing.
    """
    grid = find_mask_grid(item)
    factor = -(-max(grid.shape) // size_px)
    reduced = grid.at_pixel_size(factor * grid.pixel_size_m)
    root = item.get_root_link()
    catalog = (root.get_absolute_href() if root is not None else None) or ""
    reader = build_reader((catalog,), files or (Path(catalog).parent if catalog.startswith("/") else None))
    item.make_asset_hrefs_absolute()
    scene = read_scene(item.to_dict(transform_hrefs=False))
    picture = read_true_colour(reader, scene, reduced)
    drawn = draw_outlines(picture, reduce_classes(read_classes(item), factor))
    return View(encode_picture(drawn), reduced.shape)


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Brown to green, which also differ in lightness, for readers who do not see the hues.
_NONE_CLEAR, _ALL_CLEAR = (214, 182, 164), (120, 186, 128)
_EMPTY = (238, 240, 242)
#: Height and width of a month, and space for the title and the names of the months and rows, in inches.
_CELL, _TOP, _LEFT, _MARGIN = (0.32, 0.56), 0.75, 1.15, 0.15
#: matplotlib cannot draw a picture of 65536 rows of pixels.
_MOST_ROWS = 1500


def blend_share(share: float) -> RGB:
    """Return the colour of a share, 0 to 1."""
    red, green, blue = (
        round(none + share * (all_ - none)) for none, all_ in zip(_NONE_CLEAR, _ALL_CLEAR, strict=True)
    )
    return (red, green, blue)


def build_calendar(months: Iterable[MonthOfTile]) -> dict[str, list[tuple[int, int]]]:
    """Return a line for each tile and year: by month, how many scenes of how many are cloud-free."""
    lines: dict[str, list[tuple[int, int]]] = {}
    for each in months:
        line = lines.setdefault(f"{each.tile} {each.year}", [(0, 0)] * len(MONTHS))
        line[each.month - 1] = (each.cloud_free, each.scenes)
    return lines


def draw_calendar(title: str, months: Iterable[MonthOfTile], ending: str = ".png") -> bytes:
    """Return a calendar as ``.png`` or ``.svg``: one line per tile and year, one coloured cell per month.

    Raises:
        SettingsError: The extra ``charts`` is not installed, or there are more rows than a picture can have.
    """
    lines = build_calendar(months)
    if len(lines) > _MOST_ROWS:
        raise SettingsError(
            f"--out: {len(lines)} lines are too many for a picture: choose by --tile or --datetime"
        )
    height, width = (len(lines) or 1) * _CELL[0], len(MONTHS) * _CELL[1]
    full_width, full_height = _LEFT + width + _MARGIN, _TOP + height + _MARGIN
    figure = start_figure(full_width, full_height)
    place = (_LEFT / full_width, _MARGIN / full_height, width / full_width, height / full_height)
    axes = figure.add_axes(place, frameon=False)
    cells = [[blend_share(some / all_) if all_ else _EMPTY for some, all_ in line] for line in lines.values()]
    axes.imshow(cells or [[_EMPTY] * len(MONTHS)], aspect="auto")
    for row, line in enumerate(lines.values()):
        for month, (some, all_) in enumerate(line):
            if all_:
                axes.text(month, row, f"{some}/{all_}", ha="center", va="center", color=INK, fontsize=9)
    axes.set_xticks(range(len(MONTHS)), MONTHS)
    axes.set_yticks(range(len(lines)), list(lines))
    axes.tick_params(length=0, labelcolor=INK, labelsize=9, labeltop=True, labelbottom=False)
    # White lines between the cells.
    axes.set_xticks([month - 0.5 for month in range(1, len(MONTHS))], minor=True)
    axes.set_yticks([row - 0.5 for row in range(1, len(lines))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    figure.text(_MARGIN / full_width, 1 - _MARGIN / full_height, title, va="top", color=INK, fontsize=11)
    return encode_figure(figure, ending)


#: From bottom to top: the parts of an area, and their colours. Clear is darker than in masks, which lie on a map.
_PARTS = {
    "clear": ("Clear", "#78ba80"),
    "shadow": ("Cloud shadow", f"#{CLASS_STYLES[MaskClass.CLOUD_SHADOW].color_hint}"),
    "cloud": ("Cloud", f"#{CLASS_STYLES[MaskClass.CLOUD].color_hint}"),
    "nodata": ("No data", UNKNOWN),
}
#: Heights of a year, of title and legend, and of the names of the months; the total width; in inches.
_YEAR_IN, _TOP_IN, _BOTTOM_IN, _WIDTH_IN = 1.05, 0.75, 0.35, 10.0
_LEFT_IN, _RIGHT_IN, _GAP_IN = 0.7, 0.15, 0.22
#: Width of a bar in days: a satellite comes back after five, two of them after two or three.
_BAR_DAYS = 1.8


def draw_clear_chart(title: str, scenes: Sequence[ClearScene], ending: str = ".png") -> bytes:
    """Return a chart of the area's shares: one line per year, one bar per day; ``.png`` or ``.svg``.

    If a day has several scenes, the one that covers most of the area is shown; scenes without a date are not.

    Raises:
        SettingsError: the extra ``charts`` is not installed.
    """
    years = _choose_scenes(scenes)
    height = _TOP_IN + max(len(years), 1) * _YEAR_IN + _BOTTOM_IN
    figure = start_figure(_WIDTH_IN, height)
    for line, (year, days) in enumerate(sorted(years.items()) or [(None, {})]):
        bottom = height - _TOP_IN - (line + 1) * _YEAR_IN + _GAP_IN
        width = _WIDTH_IN - _LEFT_IN - _RIGHT_IN
        place = (_LEFT_IN / _WIDTH_IN, bottom / height, width / _WIDTH_IN, (_YEAR_IN - _GAP_IN) / height)
        _draw_year(figure.add_axes(place), year, days)
    figure.text(_LEFT_IN / _WIDTH_IN, 1 - 0.12 / height, title, va="top", color=INK, fontsize=12)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=((_LEFT_IN - 0.08) / _WIDTH_IN, 1 - 0.36 / height),
        ncols=len(_PARTS),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        borderaxespad=0,
    )
    return encode_figure(figure, ending)


def _choose_scenes(scenes: Sequence[ClearScene]) -> dict[int, dict[int, ClearScene]]:
    """Return, by year and day of the year, the scene that covers most."""
    years: dict[int, dict[int, ClearScene]] = defaultdict(dict)
    for scene in scenes:
        if scene.item.datetime is None:
            continue
        day = date.fromisoformat(scene.item.datetime[:10])
        days, number = years[day.year], (day - date(day.year, 1, 1)).days
        if number not in days or scene.nodata_px < days[number].nodata_px:
            days[number] = scene
    return years


def _draw_year(axes: Axes, year: int | None, days: dict[int, ClearScene]) -> None:
    foot = [0.0] * len(days)
    shares = [scene.percentages for scene in days.values()]
    for name, (label, color) in _PARTS.items():
        heights = [share[name] for share in shares]
        axes.bar(list(days), heights, _BAR_DAYS, foot, color=color, linewidth=0, label=label)
        foot = [low + high for low, high in zip(foot, heights, strict=True)]
    starts = [(date(2020, month, 1) - date(2020, 1, 1)).days for month in range(1, 13)]
    axes.set_xlim(-1, 366)
    axes.set_ylim(0, 100)
    axes.set_xticks(starts, MONTHS, ha="left")
    axes.set_yticks([0, 50, 100], ["0", "50", "100 %"])
    axes.tick_params(length=0, labelcolor=INK, labelsize=8)
    axes.set_ylabel("" if year is None else str(year), color=INK, fontsize=11, fontweight="bold")
    axes.set_axisbelow(True)
    axes.grid(color=LINE, linewidth=0.4, alpha=0.7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
