"""The source's items, not yet validated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.query import SceneQuery

Item = dict[str, Any]
#: The longest text that we read from an item, a datastrip's id, has 64 characters.
MAX_TEXT_LENGTH = 200
UNKNOWN_ID = "?"


def check_object(item: Any) -> None:
    """Check that an item is a JSON object.

    Raises:
        InvalidField: it is not.
    """
    if not isinstance(item, dict):
        raise InvalidField(UNKNOWN_ID, "item", "is no JSON object")


def find_property(item: Item, name: str) -> Any:
    """Return the item's property of that name, or None if it has none, or no properties object."""
    properties = item.get("properties")
    return properties.get(name) if isinstance(properties, dict) else None


def is_number(value: Any) -> bool:
    """Return True if ``value`` is a finite number that fits into a double."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_printable(value: Any, longest: int) -> bool:
    """Return True if ``value`` is a text of 1 to ``longest`` characters on one line."""
    return isinstance(value, str) and 1 <= len(value) <= longest and value.isprintable()


class ItemSearch(Protocol):
    """Finds Sentinel-2 items."""

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items without duplicates, ordered by datetime, then id, with unsigned hrefs.

        Raises:
            SourceUnavailable: no complete answer within the deadline.
            SourceRefused: an answer that is not a page of items of allowed size.
        """
        ...


class SceneSource(ItemSearch, Protocol):
    """Finds Sentinel-2 items, and determines where their assets may be read from."""

    @property
    def local_root(self) -> Path | None:
        """The folder that local assets must be in; None if no asset may be local."""
        ...

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from."""
        ...

    @property
    def allow_loopback(self) -> bool:
        """True if assets may be read from loopback, because the items come from there."""
        ...
