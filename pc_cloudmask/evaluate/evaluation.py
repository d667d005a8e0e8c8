"""Masks compared with labels, or with each other, scene by scene, and a picture of where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.evaluate.labels import AGREEING, Confusion, Label, sum_confusions
from pc_cloudmask.evaluate.masks import MaskChoice, MaskOnGrid, MaskSource
from pc_cloudmask.evaluate.references import MaskReference, PointReference, Reference
from pc_cloudmask.masking.classes import CLASS_STYLES, RGB, MaskClass
from pc_cloudmask.raster.picture import INK, encode_figure, start_figure
from pc_cloudmask.version import tell_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Called with each comparison once it is made: the scene, the comparison, the mask, and its reference.
Look = Callable[[str, "Comparison", MaskOnGrid, Reference], None]


@dataclass(frozen=True, slots=True)
class SceneCounts:
    """The counts of one scene, and how its mask was made, if known."""

    confusion: Confusion
    method: str | None
    buffer_m: float | None


@dataclass(slots=True)
class Comparison:
    """One choice of mask against a reference, over all scenes; ``reference`` is None for labels."""

    mask: MaskChoice
    reference: MaskChoice | None = None
    scenes: dict[str, SceneCounts] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return a short title for people."""
        return f"{self.mask.title} against {self.reference.title if self.reference else 'the labels'}"

    @property
    def total(self) -> Confusion:
        """Return the counts of all scenes together: every pixel weighs the same."""
        return sum_confusions(scene.confusion for scene in self.scenes.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        scenes = [
            {"id": name, "method": scene.method, "buffer_m": scene.buffer_m, **scene.confusion.as_json()}
            for name, scene in self.scenes.items()
        ]
        reference = self.reference.as_json() if self.reference else "labels"
        return {
            "mask": self.mask.as_json(),
            "reference": reference,
            "scenes": scenes,
            "all": self.total.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was compared, and the scenes that could not be, by id."""

    comparisons: Sequence[Comparison]
    left_out: Mapping[str, CloudmaskError]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
            "left_out": [{"id": name, "error": str(error)} for name, error in self.left_out.items()],
        }


def list_choices(
    methods: Sequence[str], buffers: Sequence[float], given: Literal["published", "file"]
) -> list[MaskChoice]:
    """Return a choice for each method, or for the ``given`` masks if there are no methods, with each buffer."""
    origin: Literal["published", "file", "made"] = "made" if methods else given
    return [
        MaskChoice(method, buffer, origin) for method in methods or (None,) for buffer in buffers or (None,)
    ]


def evaluate(
    masks: MaskSource,
    choices: Sequence[MaskChoice],
    labels: Mapping[str, Reference] | None,
    look: Look | None = None,
) -> Evaluation:
    """Compare the masks of each scene with its labels, or without labels each choice with the others.

    A scene that cannot be read is left out. Two masks of one scene are in memory at a time; labels are read in blocks.

    Raises:
        CloudmaskError: the setup or a layout is at fault: no scene could be compared.
    """
    if labels is not None:
        comparisons = [Comparison(choice) for choice in choices]
    elif len(choices) < 2:
        raise SettingsError("give --labels, or two masks to compare: --method A --method B")
    else:
        comparisons = [Comparison(other, choice) for choice, other in combinations(choices, 2)]
    left_out: dict[str, CloudmaskError] = {}
    for scene_id in labels if labels is not None else masks.ids:
        try:
            found = list(_compare(masks, scene_id, comparisons, labels[scene_id] if labels else None, look))
        except CloudmaskError as error:
            if error.ends_run:
                raise
            left_out[scene_id] = error
            continue
        for comparison, counts in found:
            comparison.scenes[scene_id] = counts
    return Evaluation(comparisons, left_out)


def _compare(
    masks: MaskSource,
    scene_id: str,
    comparisons: Sequence[Comparison],
    labels: Reference | None,
    look: Look | None,
) -> Iterator[tuple[Comparison, SceneCounts]]:
    """Yield the counts of one scene; a choice's mask is made only once."""
    made: dict[MaskChoice, MaskOnGrid] = {}

    def make(choice: MaskChoice) -> MaskOnGrid:
        if choice not in made:
            if labels is not None:
                made.clear()  # each is needed only once
            made[choice] = masks.read(scene_id, choice)
        return made[choice]

    for comparison in comparisons:
        reference = labels or MaskReference(make(comparison.reference or comparison.mask).classes)
        mask = make(comparison.mask)
        counted = reference.count(mask.classes, mask.grid)
        yield comparison, SceneCounts(counted, mask.method, mask.buffer_m)
        if look is not None:
            look(scene_id, comparison, mask, reference)


#: The most comparisons that one picture can hold.
MAX_ROWS = 8
#: The most pixels of a panel's longer edge.
_PANEL_PX = 600
_PANEL_IN, _TOP_IN, _LEGEND_IN, _DPI = 4.0, 0.55, 0.75, 110
#: Names and colours of values, by value.
_Legend = Sequence[tuple[str, RGB]]
#: Drawn where nobody labelled, or the mask has no data.
_NOTHING: RGB = (255, 255, 255)
#: In the order of ``Label``.
_CLASS_COLORS: _Legend = (
    ("not labelled, or no data", _NOTHING),
    ("clear", CLASS_STYLES[MaskClass.CLEAR].color),
    ("cloud", CLASS_STYLES[MaskClass.CLOUD].color),
    ("shadow", CLASS_STYLES[MaskClass.CLOUD_SHADOW].color),
    ("cloud in shadow", (150, 20, 110)),
)
#: Kinds of difference, from 0 on. The colours differ in lightness too.
_BOTH_CLEAR, _BOTH_MASKED, _MISSED, _FOR_NOTHING, _CONFUSED = 1, 2, 3, 4, 5
_KIND_COLORS: _Legend = (
    ("not compared", _NOTHING),
    ("both clear", (228, 232, 226)),
    ("both alike", (150, 156, 164)),
    ("masked in the reference only", (196, 30, 40)),
    ("masked in the mask only", (250, 176, 40)),
    ("cloud against shadow", (40, 110, 200)),
)
#: The kind of difference by label and mask class.
_KINDS = np.zeros((len(Label), len(MaskClass)), np.uint8)
_KINDS[1:, 1:] = _CONFUSED
_KINDS[1:, MaskClass.CLEAR] = _MISSED
_KINDS[Label.CLEAR, 1:] = _FOR_NOTHING
_KINDS[tuple(zip(*AGREEING, strict=True))] = _BOTH_MASKED
_KINDS[Label.CLEAR, MaskClass.CLEAR] = _BOTH_CLEAR


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
    places: NDArray[np.float64] | None = None


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
        places = None
        if isinstance(reference, PointReference):
            found, parts = zip(*reference.locate(mask.grid), strict=True)
            rows, columns = np.concatenate(found, axis=1)
            labels = np.concatenate(parts)
            kinds, places = _KINDS[labels, mask.classes[rows, columns]], np.array([rows, columns]) / step
        else:
            labels = np.zeros(mask.grid.shape, np.uint8)
            for place, values in reference.locate(mask.grid):
                labels[place] = np.where(values != Label.UNKNOWN, values, labels[place])
            labels = np.ascontiguousarray(labels[::step, ::step])
            kinds = _KINDS[labels, reduced]
        picture = self._find_picture(scene_id, mask, step)
        self.rows.append(Row(scene_id, comparison, picture, reduced, labels, kinds, places))

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
        height_in, width = len(self.rows) * row_in + _LEGEND_IN, 1 / columns
        figure = start_figure(columns * (_PANEL_IN + 0.15) + 0.15, height_in, _DPI)
        for line, row in enumerate(self.rows):
            bottom = (height_in - (line + 1) * row_in) / height_in
            size = (width - 0.008, _PANEL_IN / height_in)
            panels = [
                figure.add_axes((column * width + 0.004, bottom, *size), frameon=False)
                for column in range(columns)
            ]
            _draw_row(row, panels, has_picture)
            title = f"{row.scene_id}: {row.comparison.title}"
            top = bottom + (_PANEL_IN + 0.3) / height_in
            figure.text(0.008, top, title, va="bottom", color=INK, fontsize=10)
        classes = {int(value) for row in self.rows for value in np.union1d(row.labels, row.classes)}
        _draw_legend(figure, _CLASS_COLORS, classes, 0.42 / height_in)
        kinds = {int(value) for row in self.rows for value in np.unique(row.kinds)}
        _draw_legend(figure, _KIND_COLORS, kinds, 0.10 / height_in)
        return encode_figure(figure, ending)


def _draw_row(row: Row, panels: list[Axes], has_picture: bool) -> None:
    reference = row.comparison.reference
    titles = [
        *["true colour"] * has_picture,
        row.comparison.mask.title,
        reference.title if reference else "labels",
        "difference",
    ]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9, color=INK, pad=3)
        axes.set_xticks([])
        axes.set_yticks([])
    if has_picture:
        blank = np.full((*row.classes.shape, 3), 255, np.uint8)
        panels[0].imshow(blank if row.picture is None else row.picture)
    _paint(panels[-3], row.classes, _CLASS_COLORS)
    for axes, values, legend in (
        (panels[-2], row.labels, _CLASS_COLORS),
        (panels[-1], row.kinds, _KIND_COLORS),
    ):
        if row.places is None:
            _paint(axes, values, legend)
            continue
        # Points in their places, without those that nobody labelled.
        axes.imshow(np.full((*row.classes.shape, 3), 245, np.uint8))
        shown = values > 0
        rows, columns = row.places[:, shown]
        colors = np.array([color for _, color in legend]) / 255
        axes.scatter(columns, rows, s=9, c=colors[values[shown]], edgecolors=INK, linewidths=0.3)


def _paint(axes: Axes, values: NDArray[np.uint8], legend: _Legend) -> None:
    axes.imshow(np.array([color for _, color in legend], np.uint8)[values], interpolation="nearest")


def _draw_legend(figure: Figure, legend: _Legend, shown: set[int], bottom: float) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - of an extra, and slow

    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*color), edgecolor="#b0b4ba", label=name)
        for value, (name, color) in enumerate(legend)
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
