"""What a user asks the source for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BBox = tuple[float, float, float, float]
"""``(west, south, east, north)`` in degrees; west > east crosses the antimeridian."""


@dataclass(frozen=True, slots=True)
class SceneQuery:
    """Criteria that must all hold; an empty tuple or None leaves a criterion open."""

    bbox: BBox | None = None
    intersects: Mapping[str, Any] | None = field(default=None, hash=False)
    tiles: tuple[str, ...] = ()
    datetime: str | None = None
    ids: tuple[str, ...] = ()
    limit: int | None = None
