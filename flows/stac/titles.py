"""What people read in a catalog's links."""

from __future__ import annotations

import re
from datetime import date

from flows.stac.layout import LeafKeys

_PRODUCT_ID = re.compile(
    r"(?P<platform>S2[A-Z])_MSIL[12][A-Z]_\d{8}T(?P<hour>\d\d)(?P<minute>\d\d)\d\d"
    r"(?:_N\d{4})?_(?P<orbit>R\d{3})_T[0-9A-Z]{5}_\w+",
    re.ASCII,
)
"""The Planetary Computer's ids, and ESA's, which name the baseline too."""
_DAY = re.compile(r"(?<![0-9])([12][0-9]{7})(?![0-9])")
"""Of this millennium or the last: no neighbour of such a day is beyond the calendar."""


def build_item_title(item_id: str) -> str:
    """``2018-12-14 13:32 Sentinel-2B R081`` from a product's id.

    The ISO date comes first, so that a browser's list by title is a list by time. An id of another form
    follows the first date in it, or stands alone.
    """
    day = find_day(item_id)
    if day is None:
        return item_id
    product = _PRODUCT_ID.fullmatch(item_id)
    if product is None:
        return f"{day} {item_id}"
    hour, minute, orbit = product["hour"], product["minute"], product["orbit"]
    return f"{day} {hour}:{minute} Sentinel-2{product['platform'][-1]} {orbit}"


def build_band_title(band: str) -> str:
    """``Zone 22, band K``."""
    return f"Zone {band[:2]}, band {band[2:]}"


def build_tile_title(tile: str) -> str:
    """``Tile 22KFV``."""
    return f"Tile {tile}"


def build_year_title(leaf: LeafKeys) -> str:
    """``22KFV in 2018``."""
    return f"{leaf.tile} in {leaf.year}"


def find_day(item_id: str) -> date | None:
    """The first eight digits that are a date: the day of the acquisition, UTC, in every product's id."""
    for digits in _DAY.findall(item_id):
        try:
            return date.fromisoformat(digits)
        except ValueError:
            continue
    return None
