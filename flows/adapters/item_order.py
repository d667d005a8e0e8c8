"""The order of items: by datetime, then id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from flows.errors import SourceRefused
from flows.ports import Item
from flows.scene.query import parse_instant

MAX_COLLECTED_ITEMS = 10_000
"""Items that are held at once to be sorted: about half a gigabyte."""

_UNDATED = datetime.min.replace(tzinfo=UTC)


def find_datetime(item: Item) -> datetime | None:
    """An item's datetime, else the start of its time span; None where it has neither."""
    properties = item.get("properties")
    if isinstance(properties, dict):
        for name in ("datetime", "start_datetime"):
            text = properties.get(name)
            if isinstance(text, str):
                try:
                    return parse_instant(text)
                except ValueError:
                    return None
    return None


def sort_items(items: Iterable[Item]) -> list[Item]:
    """All items, sorted; undated ones first.

    Raises:
        SourceRefused: more than can be held.
    """
    held = []
    for item in items:
        held.append(item)
        if len(held) > MAX_COLLECTED_ITEMS:
            raise SourceRefused(
                f"more than {MAX_COLLECTED_ITEMS} items match, too many to be sorted here: narrow the search"
            )
    return sorted(held, key=_key)


def sort_ties(items: Iterable[Item]) -> Iterator[Item]:
    """Items that arrive by datetime, those of the same instant sorted by id.

    Databases disagree on how ids sort ("_" before or after "0"), so ties are sorted here. Only the
    items of one instant are held. Undated items keep their place.

    Raises:
        SourceRefused: they do not arrive by datetime.
    """
    group: list[Item] = []
    instant = _UNDATED
    for item in items:
        moment = find_datetime(item) or instant
        if moment < instant:
            raise SourceRefused(f"the STAC API does not sort by datetime as asked: {moment} after {instant}")
        if moment > instant:
            yield from sorted(group, key=_id)
            group, instant = [], moment
        group.append(item)
    yield from sorted(group, key=_id)


def _id(item: Item) -> str:
    return str(item.get("id"))


def _key(item: Item) -> tuple[datetime, str]:
    return (find_datetime(item) or _UNDATED, _id(item))
