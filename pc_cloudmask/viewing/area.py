"""The area that someone asks about, however they have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.settings import read_area_file


def read_area(area: Any, what: str = "--intersects") -> str | bytes:
    """Return as GeoJSON text: a file's content, a text that is GeoJSON itself, an object, or a shape.

    A shape is what has a ``__geo_interface__``: shapely's, geopandas' tables. ``what`` says in errors what it is.

    Raises:
        SettingsError: there is no such file, or it is none of these.
    """
    if isinstance(area, str) and area.lstrip().startswith("{"):
        return area
    if isinstance(area, str | Path) and str(area):
        return read_area_file(Path(area), what)
    document = getattr(area, "__geo_interface__", area)
    if not isinstance(document, Mapping):
        raise SettingsError(f"{what}: name a file of GeoJSON, or give GeoJSON")
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise SettingsError(f"{what}: not GeoJSON: {error}") from error
