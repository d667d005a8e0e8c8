"""What people read in a catalog's links."""

from __future__ import annotations

import re

_PRODUCT_ID = re.compile(
    r"(?P<platform>S2[A-Z])_MSIL[12][A-Z]_(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
    r"T(?P<hour>\d\d)(?P<minute>\d\d)\d\d_(?P<orbit>R\d{3})_T(?P<tile>[0-9A-Z]{5})_\w+"
)


def build_item_title(item_id: str) -> str:
    """``2018-12-14 13:32 Sentinel-2B R081`` from the product's id; the id itself where it tells no date.

    The ISO date comes first, so that a browser's list by title is a list by time.
    """
    match = _PRODUCT_ID.fullmatch(item_id)
    if match is None:
        return item_id
    date = f"{match['year']}-{match['month']}-{match['day']} {match['hour']}:{match['minute']}"
    return f"{date} Sentinel-2{match['platform'][-1]} {match['orbit']}"


def build_band_title(band: str) -> str:
    """``Zone 22, band K``."""
    return f"Zone {band[:2]}, band {band[2:]}"


def build_tile_title(tile: str) -> str:
    """``Tile 22KFV``."""
    return f"Tile {tile}"
