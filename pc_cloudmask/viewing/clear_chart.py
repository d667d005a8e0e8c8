"""When an area was clear, as a chart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.raster.picture import INK, LINE, UNKNOWN, encode_figure, start_figure
from pc_cloudmask.viewing.clear import ClearScene
from pc_cloudmask.viewing.observations import MONTHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
_DAYS = 366


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
    axes.set_xlim(-1, _DAYS)
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
