"""The order of items: by datetime, then id."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from flows.errors import SourceRefused
from flows.ports import Item
from flows.scene.query import parse_instant
from flows.stac.item_reader import find_property

MAX_COLLECTED_ITEMS = 10_000
"""Items that are held at once to be sorted: about half a gigabyte."""

_UNDATED = datetime.min.replace(tzinfo=UTC)


def find_datetime(item: Item) -> datetime | None:
    """An item's datetime, else the start of its time span; None where it has neither."""
    for name in ("datetime", "start_datetime"):
        text = find_property(item, name)
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


def sort_stream(items: Iterable[Item], held: int) -> Iterator[Item]:
    """Items that arrive by datetime, in order, of which only ``held`` and those of one instant are kept.

    Those of one instant are sorted by id here, because databases disagree on how ids sort ("_" before
    or after "0"). Items that arrive late by less than ``held`` are put in their place: the Planetary
    Computer's pages were not always in order (microsoft/PlanetaryComputer#164). Undated items keep theirs.

    Raises:
        SourceRefused: one arrives later than that, or more of one instant than can be held.
    """
    waiting: list[tuple[tuple[datetime, str], int, Item]] = []
    newest = _UNDATED
    passed = (_UNDATED, "")
    for number, item in enumerate(items):
        key = (find_datetime(item) or newest, _id(item))
        if key < passed:
            raise SourceRefused(
                f"the STAC API does not sort by datetime as asked: {key[0]} after {passed[0]}"
            )
        newest = max(newest, key[0])
        heapq.heappush(waiting, (key, number, item))
        while len(waiting) > held and waiting[0][0][0] < newest:
            passed, _, first = heapq.heappop(waiting)
            yield first
        if len(waiting) > held + MAX_COLLECTED_ITEMS:
            raise SourceRefused(f"the STAC API gives more than {MAX_COLLECTED_ITEMS} items of one instant")
    while waiting:
        yield heapq.heappop(waiting)[-1]


def _id(item: Item) -> str:
    return str(item.get("id"))


def _key(item: Item) -> tuple[datetime, str]:
    return (find_datetime(item) or _UNDATED, _id(item))
