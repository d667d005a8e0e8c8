"""An area that is watched."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from flows.errors import SettingsError
from flows.scene.query import (
    Interval,
    SceneQuery,
    build_query,
    format_datetime_interval,
    parse_bbox,
    parse_datetime_interval,
    parse_tile,
)

FIRST_IMAGE = date(2015, 6, 27)
"""When Sentinel-2A took its first image."""
T = TypeVar("T")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Area(BaseModel):
    """Where to look, by tiles, a box or a geometry's file, and since when; all of them must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiles: tuple[str, ...] = ()
    bbox: str | None = None
    intersects: Path | None = None
    since: str | None = None

    @field_validator("tiles")
    @classmethod
    def _tiles_are_mgrs(cls, tiles: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_value_error(parse_tile, tile) for tile in tiles))

    @field_validator("bbox")
    @classmethod
    def _bbox_is_one(cls, bbox: str | None) -> str | None:
        if bbox is not None:
            _value_error(parse_bbox, bbox)
        return bbox

    @field_validator("since", mode="before")
    @classmethod
    def _since_is_a_day(cls, since: Any) -> Any:
        if since is None:
            return None
        text = since.isoformat() if isinstance(since, date) else str(since)  # TOML has dates of its own
        if "/" in text or _value_error(parse_datetime_interval, text)[0] is None:
            raise ValueError(f"{text!r:.40}: write 2018, 2018-12 or 2018-12-14")
        return text

    @model_validator(mode="after")
    def _says_where(self) -> Area:
        if not (self.tiles or self.bbox or self.intersects):
            raise ValueError("name where to look: tiles, bbox or intersects")
        if self.bbox and self.intersects:
            raise ValueError("bbox and intersects exclude each other: give one of them")
        return self

    @property
    def start(self) -> datetime:
        """The first instant that is watched."""
        if self.since is None:
            return datetime(FIRST_IMAGE.year, FIRST_IMAGE.month, FIRST_IMAGE.day, tzinfo=UTC)
        return cast(datetime, parse_datetime_interval(self.since)[0])  # the validator saw to it

    @property
    def digest(self) -> str:
        """Tells this area from one of the same name with another extent or start."""
        geometry = self._read_geometry() or b""
        return sha256(self.model_dump_json().encode() + geometry).hexdigest()[:16]

    def read_query(self, interval: Interval) -> SceneQuery:
        """The query for what the area has within ``interval``.

        Raises:
            SettingsError: the geometry's file cannot be read, or holds none.
        """
        query = build_query(bbox=self.bbox, intersects=self._read_geometry(), tiles=self.tiles)
        return replace(query, datetime=format_datetime_interval(interval))

    def _read_geometry(self) -> bytes | None:
        if self.intersects is None:
            return None
        try:
            return self.intersects.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"{self.intersects}: the area's geometry cannot be read: {error.strerror}"
            ) from error


def check_area_name(name: str) -> str:
    """``name`` if it may name an area; it becomes part of a key.

    Raises:
        ValueError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"area {name!r:.60}: a name is 1 to 40 of a-z, 0-9 and '-'")
    return name


def _value_error(parse: Callable[[str], T], text: str) -> T:
    """What ``parse`` makes of ``text``; pydantic gathers findings as ``ValueError`` only."""
    try:
        return parse(text)
    except SettingsError as error:
        raise ValueError(str(error)) from error
