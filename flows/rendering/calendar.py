"""A calendar of counts: a row for each year, a column for each month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.masking.classes import RGB
from flows.rendering.lettering import GLYPH_HEIGHT_PX, draw_text, measure_text

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_CELL_PX = (36, 60)
"""Height and width of a month."""
_MARGIN_PX, _LABEL_PX, _SCALE = 12, 150, 3
_PAPER, _INK, _EMPTY = (255, 255, 255), (40, 44, 52), (238, 240, 242)
_NONE_CLEAR, _ALL_CLEAR = (214, 182, 164), (120, 186, 128)
"""Brown to green, which also differ in lightness, for those who do not see the hues."""


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """A year: by month, 1 to 12, how many of how many."""

    label: str
    counts: Mapping[int, tuple[int, int]]


def blend_share(share: float) -> RGB:
    """The colour of a share, 0 to 1."""
    red, green, blue = (
        round(none + share * (all_ - none)) for none, all_ in zip(_NONE_CLEAR, _ALL_CLEAR, strict=True)
    )
    return (red, green, blue)


def draw_calendar(title: str, rows: Sequence[CalendarRow]) -> NDArray[np.uint8]:
    """The picture of a calendar, uint8 ``(height, width, 3)``."""
    height, width = _CELL_PX
    left, top = _MARGIN_PX + _LABEL_PX, _MARGIN_PX + 2 * height
    grid_width = _LABEL_PX + len(MONTHS) * width
    shown_width = max(grid_width, measure_text(title, _SCALE)) + 2 * _MARGIN_PX
    picture = np.full((top + len(rows) * height + _MARGIN_PX, shown_width, 3), _PAPER, np.uint8)
    draw_text(picture, title, (_MARGIN_PX, _MARGIN_PX), _SCALE, _INK)
    for month, name in enumerate(MONTHS):
        _draw_centred(picture, name, (top - height, left + month * width))
    for number, row in enumerate(rows):
        corner = top + number * height
        draw_text(picture, row.label, (corner + _baseline(), _MARGIN_PX), _SCALE, _INK)
        for month in range(len(MONTHS)):
            some, all_ = row.counts.get(month + 1, (0, 0))
            cell = (corner, left + month * width)
            box = picture[cell[0] + 1 : cell[0] + height - 1, cell[1] + 1 : cell[1] + width - 1]
            box[:] = blend_share(some / all_) if all_ else _EMPTY
            if all_:
                _draw_centred(picture, f"{some}/{all_}", cell)
    return picture


def _draw_centred(picture: NDArray[np.uint8], text: str, cell: tuple[int, int]) -> None:
    """Write ``text`` into the middle of the cell whose upper-left pixel is ``cell``."""
    row, col = cell
    indent = (_CELL_PX[1] - measure_text(text, _SCALE)) // 2
    draw_text(picture, text, (row + _baseline(), col + indent), _SCALE, _INK)


def _baseline() -> int:
    return (_CELL_PX[0] - GLYPH_HEIGHT_PX * _SCALE) // 2
