"""The options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from pc_cloudmask.errors import SettingsError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=31)


def split_commas(values: list[str] | None) -> list[str]:
    """Return the values of an option that may be repeated, each of which may be several with commas between them.

    An empty value stays, so that ``--tile ""`` is refused and does not mean all tiles.
    """
    return [part.strip() for value in values or () for part in value.split(",")]


def parse_duration(text: str) -> timedelta:
    """Return the length that ``90s``, ``30m``, ``1h`` or ``1.5d`` names.

    Raises:
        SettingsError: it names none, or one that is shorter than a second or longer than 31 days.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    try:
        length = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None
    except OverflowError:
        length = None
    if length is None or not SHORTEST <= length <= LONGEST:
        raise SettingsError(f"--every {text!r:.40}: write 30m, 1h or 1d; at least 1s, at most 31d")
    return length


def _complete_method() -> list[str]:
    """Name the methods for the shell; the table is read only then, as it takes numpy to import."""
    from pc_cloudmask.masking.methods import METHODS

    return list(METHODS)


BboxOption = Annotated[
    str | None, typer.Option(metavar="W,S,E,N", help="A box, in degrees; W > E crosses 180°.")
]
IntersectsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A GeoJSON geometry in place of a box.")
]
TileOption = Annotated[
    list[str] | None,
    typer.Option(metavar="TILE,…", callback=split_commas, help="MGRS tiles, such as 22KFV; may be repeated."),
]
DatetimeOption = Annotated[
    str | None, typer.Option(metavar="INTERVAL", help="2018-12, 2018-12-14/2019-01-31, 2018-12-14/..")
]
ItemsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        help="Take the items of an ItemCollection, a folder or a static catalog; search no API.",
    ),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Publish at most this many scenes in a run.")]
MethodOption = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        autocompletion=_complete_method,
        help="How masks are made: a method of docs/settings.md.",
    ),
]
StoreOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the catalog is: a directory or s3://bucket/prefix.")
]
#: A store that is only read.
CatalogOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="The catalog: a directory, s3://bucket/prefix or a catalog's https URL."
    ),
]
FilesOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A folder, besides the store, that local bands may be in.")
]
