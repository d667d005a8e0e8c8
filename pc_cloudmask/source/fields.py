"""Reading the fields of a source item."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pc_cloudmask.errors import InvalidField, MissingField
from pc_cloudmask.scene.ids import check_item_id
from pc_cloudmask.scene.query import SceneQuery

Item = dict[str, Any]
#: The longest text that we take from an item, a datastrip's id, has 64 characters.
MAX_TEXT_LENGTH = 200
UNKNOWN_ID = "?"


class ItemReader:
    """Takes fields out of an item by their dotted path; says which one is missing or wrong.

    Nothing of the item but its checked id is repeated in errors: it may hold anything.

    Raises:
        MissingField, InvalidField: no JSON object, or an id that must not become part of a key.
    """

    def __init__(self, item: Item) -> None:
        self.item_id = UNKNOWN_ID
        self._item = item
        if not isinstance(item, dict):
            raise self.invalid("item", "is no JSON object")
        self.item_id = check_item_id(self.text("id"))

    def find(self, path: str) -> Any:
        """The value at ``path``; None where there is none, or no object on the way to it."""
        value: Any = self._item
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def required(self, path: str) -> Any:
        """The value at ``path``, which is not null; the first step that fails is the one to name."""
        value: Any = self._item
        walked: list[str] = []
        for name in path.split("."):
            if not isinstance(value, dict):
                raise self.invalid(".".join(walked), "is no JSON object")
            walked.append(name)
            value = value.get(name)
            if value is None:
                raise MissingField(self.item_id, ".".join(walked))
        return value

    def text(self, path: str) -> str:
        """A printable text that is not empty."""
        value = self.required(path)
        if not is_printable(value, MAX_TEXT_LENGTH):
            raise self.invalid(path, f"is no printable text of 1 to {MAX_TEXT_LENGTH} characters")
        return str(value)

    def number(self, path: str, least: float, most: float) -> float:
        """A number from ``least`` to ``most``."""
        value = self.required(path)
        if not is_number(value) or not least <= value <= most:
            raise self.invalid(path, f"is no number between {least:g} and {most:g}")
        return float(value)

    def numbers(self, path: str) -> list[float]:
        """A list of finite numbers."""
        value = self.required(path)
        if not isinstance(value, list) or not all(map(is_number, value)):
            raise self.invalid(path, "is no list of finite numbers")
        return value

    def mapping(self, path: str) -> Mapping[str, Any]:
        """A JSON object."""
        value = self.required(path)
        if not isinstance(value, dict):
            raise self.invalid(path, "is no JSON object")
        return value

    def sequence(self, name: str) -> list[Any]:
        """The item's list of this name; an empty one where it has none."""
        value = self._item.get(name, [])
        if not isinstance(value, list):
            raise self.invalid(name, "is no list")
        return value

    def invalid(self, path: str, problem: str) -> InvalidField:
        """The error that says what is wrong with the value at ``path``."""
        return InvalidField(self.item_id, path, problem)


def find_property(item: Item, name: str) -> Any:
    """The item's property of that name; None where it has none, or no object of properties."""
    properties = item.get("properties")
    return properties.get(name) if isinstance(properties, dict) else None


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number that a double holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_printable(value: Any, longest: int) -> bool:
    """Whether ``value`` is a text of 1 to ``longest`` characters in one line."""
    return isinstance(value, str) and 1 <= len(value) <= longest and value.isprintable()


class SceneSource(Protocol):
    """Finds Sentinel-2 items, and says where their assets may be read from."""

    @property
    def local_root(self) -> Path | None:
        """The folder that local assets must lie in; None where no asset may be local."""
        ...

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from."""
        ...

    @property
    def allow_loopback(self) -> bool:
        """Whether assets may be read from loopback: the items come from there."""
        ...

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """The matching items, ordered by datetime, then id; each id once; hrefs unsigned.

        Raises:
            SourceUnavailable: no complete answer within the deadline.
            SourceRefused: an answer that is not a page of items of allowed size.
        """
        ...
