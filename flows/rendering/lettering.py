"""Letters on a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flows.masking.classes import RGB

GLYPH_HEIGHT_PX, GLYPH_WIDTH_PX = 5, 3
_ADVANCE_PX = GLYPH_WIDTH_PX + 1

_FONT = """
0 75557  1 26227  2 71747  3 71717  4 55711  5 74717  6 74757  7 71222  8 75757  9 75717
A 25755  B 65656  C 34443  D 65556  E 74647  F 74644  G 34553  H 55755  I 72227  J 11152
K 55655  L 44447  M 57755  N 65555  O 25552  P 65644  Q 25563  R 65655  S 34216  T 72222
U 55557  V 55552  W 55775  X 55255  Y 55222  Z 71247  - 00700  / 11244  % 51245  . 00002  , 00024
"""
"""Of each letter five rows of three pixels, a row being an octal digit."""
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
