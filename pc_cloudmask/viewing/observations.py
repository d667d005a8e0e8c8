"""How often a tile was seen without clouds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.catalog.search import PublishedItem
from pc_cloudmask.masking.classes import RGB
from pc_cloudmask.masking.statistics import DECIMALS
from stac_ext.cloudmask import CLEAR_PERCENTAGE_PROP, NODATA_PERCENTAGE_PROP

#: Cloud and shadow that a scene may have to count as cloud-free: what searches commonly ask for.
MAX_CLOUD_PCT = 20.0


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
        return (item.keys.year_keys.tile, year, month)

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


GLYPH_HEIGHT_PX, GLYPH_WIDTH_PX = 5, 3
_ADVANCE_PX = GLYPH_WIDTH_PX + 1
#: Of each letter five rows of three pixels, a row being an octal digit.
_FONT = """
0 75557  1 26227  2 71747  3 71717  4 55711  5 74717  6 74757  7 71222  8 75757  9 75717
A 25755  B 65656  C 34443  D 65556  E 74647  F 74644  G 34553  H 55755  I 72227  J 11152
K 55655  L 44447  M 57755  N 65555  O 25552  P 65644  Q 25563  R 65655  S 34216  T 72222
U 55557  V 55552  W 55775  X 55255  Y 55222  Z 71247  - 00700  / 11244  % 51245  . 00002  , 00024
"""
_BLANK = "00000"
_WORDS = _FONT.split()
_GLYPHS = dict(zip(_WORDS[::2], _WORDS[1::2], strict=True))


def measure_text(text: str, scale: int) -> int:
    """Width of ``text`` in pixels."""
    return (len(text) * _ADVANCE_PX - 1) * scale


def draw_text(
    picture: NDArray[np.uint8], text: str, corner: tuple[int, int], scale: int, colour: RGB
) -> None:
    """Write ``text`` onto ``picture``, uint8 ``(height, width, 3)``, its upper-left pixel at ``corner``.

    It is written in capitals, with blanks for what the font lacks. ``corner`` is ``(row, column)``;
    each pixel of a letter becomes ``scale`` x ``scale``.
    """
    row, col = corner
    for position, letter in enumerate(text.upper()):
        bits = [[int(digit) >> shift & 1 for shift in (2, 1, 0)] for digit in _GLYPHS.get(letter, _BLANK)]
        inked = np.kron(np.array(bits, dtype=bool), np.ones((scale, scale), dtype=bool))
        left = col + position * _ADVANCE_PX * scale
        picture[row : row + inked.shape[0], left : left + inked.shape[1]][inked] = colour


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Height and width of a month.
_CELL_PX = (36, 60)
_MARGIN_PX, _LABEL_PX, _SCALE = 12, 150, 3
_PAPER, _INK, _EMPTY = (255, 255, 255), (40, 44, 52), (238, 240, 242)
#: Brown to green, which also differ in lightness, for those who do not see the hues.
_NONE_CLEAR, _ALL_CLEAR = (214, 182, 164), (120, 186, 128)


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
