"""A picture of where a mask and its reference differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.evaluate.confusion import Label
from pc_cloudmask.evaluate.evaluation import Comparison
from pc_cloudmask.evaluate.labels import PointReference, Reference
from pc_cloudmask.evaluate.masks import MaskOnGrid, MaskSource
from pc_cloudmask.masking.classes import CLASS_STYLES, RGB, MaskClass
from pc_cloudmask.raster.picture import INK, encode_figure, start_figure
from pc_cloudmask.version import tell_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The most comparisons that one picture can hold.
MAX_ROWS = 8
#: The most pixels of a panel's longer edge.
_PANEL_PX = 600
_PANEL_IN, _TOP_IN, _LEGEND_IN, _DPI = 4.0, 0.55, 0.75, 110
#: Drawn where nobody labelled, or the mask has no data.
_NOTHING: RGB = (255, 255, 255)
_CLASS_COLORS: Mapping[int, tuple[str, RGB]] = {
    Label.UNKNOWN: ("not labelled, or no data", _NOTHING),
    Label.CLEAR: ("clear", CLASS_STYLES[MaskClass.CLEAR].color),
    Label.CLOUD: ("cloud", CLASS_STYLES[MaskClass.CLOUD].color),
    Label.SHADOW: ("shadow", CLASS_STYLES[MaskClass.CLOUD_SHADOW].color),
    Label.CLOUD_AND_SHADOW: ("cloud in shadow", (150, 20, 110)),
}
#: Kinds of difference, in the order of ``_KINDS``' values. The colours differ in lightness too.
_BOTH_CLEAR, _BOTH_MASKED, _MISSED, _FOR_NOTHING, _CONFUSED = 1, 2, 3, 4, 5
_KIND_COLORS: Mapping[int, tuple[str, RGB]] = {
    0: ("not compared", _NOTHING),
    _BOTH_CLEAR: ("both clear", (228, 232, 226)),
    _BOTH_MASKED: ("both alike", (150, 156, 164)),
    _MISSED: ("masked in the reference only", (196, 30, 40)),
    _FOR_NOTHING: ("masked in the mask only", (250, 176, 40)),
    _CONFUSED: ("cloud against shadow", (40, 110, 200)),
}


def _build_kinds() -> NDArray[np.uint8]:
    """Return the kind of difference by label and mask class."""
    kinds = np.zeros((len(Label), len(MaskClass)), np.uint8)
    kinds[1:, 1:] = _CONFUSED
    kinds[1:, MaskClass.CLEAR] = _MISSED
    kinds[Label.CLEAR, 1:] = _FOR_NOTHING
    kinds[Label.CLEAR, MaskClass.CLEAR] = _BOTH_CLEAR
    kinds[Label.CLOUD, MaskClass.CLOUD] = kinds[Label.SHADOW, MaskClass.CLOUD_SHADOW] = _BOTH_MASKED
    kinds[Label.CLOUD_AND_SHADOW, MaskClass.CLOUD :] = _BOTH_MASKED
    return kinds


_KINDS = _build_kinds()


@dataclass(frozen=True, slots=True)
class Row:
    """The contents of one comparison's row; rasters are reduced to what a panel shows.

    ``classes`` is uint8 ``(h, w)`` of ``MaskClass``, ``labels`` and ``kinds`` of ``Label`` and kinds of difference.
    For points, ``places`` are their rows and columns in it, and the two have one value per point. ``picture`` is uint8
    ``(h, w, 3)``, or None.
    """

    scene_id: str
    comparison: Comparison
    picture: NDArray[np.uint8] | None
    classes: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    kinds: NDArray[np.uint8]
    places: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None


@dataclass(slots=True)
class Gallery:
    """The comparisons of a picture, collected as they are made; ``masks`` provides true colours.

    Raises:
        SettingsError: more are ``planned`` than a picture can hold, or matplotlib is not installed.
    """

    masks: MaskSource
    planned: int
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check that the picture can be drawn before anything is compared for it."""
        if find_spec("matplotlib") is None:
            raise SettingsError(f"--picture needs matplotlib: {tell_extra('charts')}")
        if self.planned > MAX_ROWS:
            raise SettingsError(
                f"--picture: has room for {MAX_ROWS} comparisons, these are {self.planned}: name fewer scenes or masks"
            )

    def add(self, scene_id: str, comparison: Comparison, mask: MaskOnGrid, reference: Reference) -> None:
        """Keep what a row shows."""
        step = -(-max(mask.grid.shape) // _PANEL_PX)
        reduced = np.ascontiguousarray(mask.classes[::step, ::step])
        picture = self._find_picture(scene_id, mask, step)
        if isinstance(reference, PointReference):
            found = list(reference.locate(mask.grid))
            rows, columns, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
            kinds = _KINDS[labels, mask.classes[rows, columns]]
            places = (rows / step, columns / step)
            self.rows.append(Row(scene_id, comparison, picture, reduced, labels, kinds, places))
            return
        labels = np.zeros(mask.grid.shape, np.uint8)
        for rows, columns, values in reference.locate(mask.grid):
            known = values != Label.UNKNOWN
            labels[rows, columns] = np.where(known, values, labels[rows, columns])
        labels = np.ascontiguousarray(labels[::step, ::step])
        self.rows.append(Row(scene_id, comparison, picture, reduced, labels, _KINDS[labels, reduced]))

    def _find_picture(self, scene_id: str, mask: MaskOnGrid, step: int) -> NDArray[np.uint8] | None:
        """Return the scene's true colours; None if they cannot be read: the rest is worth drawing."""
        try:
            grid = mask.grid.at_pixel_size(step * mask.grid.pixel_size_m)
            return self.masks.read_true_colour(scene_id, grid)
        except CloudmaskError as error:
            if error.ends_run:
                raise
            return None

    def draw(self, ending: str = ".png") -> bytes:
        """Return the picture, ``.png`` or ``.svg``: one line per comparison.

        True colour is shown next to mask, reference and difference.
        """
        has_picture = any(row.picture is not None for row in self.rows)
        columns = 3 + has_picture
        row_in = _PANEL_IN + _TOP_IN
        height_in = len(self.rows) * row_in + _LEGEND_IN
        figure = start_figure(columns * (_PANEL_IN + 0.15) + 0.15, height_in, _DPI)
        for line, row in enumerate(self.rows):
            bottom = (height_in - (line + 1) * row_in) / height_in
            width = 1 / columns
            panels = [
                figure.add_axes(
                    (column * width + 0.004, bottom, width - 0.008, _PANEL_IN / height_in), frameon=False
                )
                for column in range(columns)
            ]
            _draw_row(row, panels, has_picture)
            title = f"{row.scene_id}: {row.comparison.title}"
            top = bottom + (_PANEL_IN + 0.3) / height_in
            figure.text(0.008, top, title, va="bottom", color=INK, fontsize=10)
        _draw_legend(figure, _CLASS_COLORS, self._find_shown("labels"), 0.42 / height_in)
        _draw_legend(figure, _KIND_COLORS, self._find_shown("kinds"), 0.10 / height_in)
        return encode_figure(figure, ending)

    def _find_shown(self, name: str) -> set[int]:
        shown = {int(value) for row in self.rows for value in np.unique(getattr(row, name))}
        return shown | (
            {int(v) for row in self.rows for v in np.unique(row.classes)} if name == "labels" else set()
        )


def _draw_row(row: Row, panels: list[Axes], has_picture: bool) -> None:
    backdrop = row.picture
    titles = ["true colour"] * has_picture + [
        row.comparison.mask.title,
        row.comparison.reference.title if row.comparison.reference else "labels",
        "difference",
    ]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9, color=INK, pad=3)
        axes.set_xticks([])
        axes.set_yticks([])
    if has_picture:
        panels.pop(0).imshow(
            np.full((*row.classes.shape, 3), 255, np.uint8) if backdrop is None else backdrop
        )
    _paint(panels[0], row.classes, _CLASS_COLORS)
    for axes, values, colors in (
        (panels[1], row.labels, _CLASS_COLORS),
        (panels[2], row.kinds, _KIND_COLORS),
    ):
        if row.places is None:
            _paint(axes, values, colors)
        else:
            _scatter(axes, row.classes.shape, row.places, (values, colors))


def _paint(axes: Axes, values: NDArray[np.uint8], colors: Mapping[int, tuple[str, RGB]]) -> None:
    table = np.array([colors[value][1] for value in sorted(colors)], np.uint8)
    axes.imshow(table[values], interpolation="nearest")


def _scatter(
    axes: Axes,
    shape: tuple[int, ...],
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    drawn: tuple[NDArray[np.uint8], Mapping[int, tuple[str, RGB]]],
) -> None:
    """Draw points in their places, omitting those that nobody labelled."""
    axes.imshow(np.full((*shape, 3), 245, np.uint8))
    (rows, columns), (values, colors) = places, drawn
    shown = values > 0
    table = np.array([colors[value][1] for value in sorted(colors)], np.float64) / 255
    axes.scatter(columns[shown], rows[shown], s=9, c=table[values[shown]], edgecolors=INK, linewidths=0.3)


def _draw_legend(
    figure: Figure, colors: Mapping[int, tuple[str, RGB]], shown: set[int], bottom: float
) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415

    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*color), edgecolor="#b0b4ba", label=name)
        for value, (name, color) in colors.items()
        if value in shown
    ]
    figure.legend(
        handles=patches,
        loc="lower left",
        bbox_to_anchor=(0.004, bottom),
        ncols=len(patches) or 1,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        borderaxespad=0,
    )
