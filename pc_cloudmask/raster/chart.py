"""Charts as files."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.version import tell_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colour of text, of lines between, of what is not known.
INK, LINE, UNKNOWN = "#282c34", "#b0b4ba", "#dcdfe4"


def start_figure(width_in: float, height_in: float, dpi: int = 120) -> Figure:
    """Return an empty chart of that size.

    Raises:
        SettingsError: the extra ``charts`` is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - of an extra, and slow
    except ImportError as error:
        raise SettingsError(f"a chart needs matplotlib: {tell_extra('charts')}") from error
    return Figure((width_in, height_in), dpi=dpi, facecolor="white")


def encode_figure(figure: Figure, ending: str = ".png") -> bytes:
    """Return the file of a chart, ``.png`` or ``.svg``; the same chart gives the same bytes.

    An SVG holds text as text: it can be searched, and stays sharp.
    """
    from matplotlib import rc_context  # noqa: PLC0415

    is_svg = ending.lower() == ".svg"
    written = BytesIO()
    with rc_context({"svg.hashsalt": "cloudmask", "svg.fonttype": "none"}):
        figure.savefig(
            written, format=ending.lstrip(".").lower(), metadata={"Date": None} if is_svg else None
        )
    return written.getvalue()
