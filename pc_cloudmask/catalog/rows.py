"""Items made fit to be the rows of one table.

A column has one type, and items come from whoever made them: one property that is a text in one item and a number in
all others would cost the table of all of them. So the types of every field are counted over all items first, and then
each item loses what is not of its field's most frequent type, or of none that a table has: empty objects, integers of
more than 64 bits, instants without a zone. Nothing is converted: what stays is what the item says.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pc_cloudmask.scene.geometry import build_shape
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.source.fields import Item

#: Names of the fields on the way to a value; an element of a list stands under "[]".
Path = tuple[str, ...]
#: Properties that become columns of instants.
_INSTANTS = frozenset(
    {
        "datetime",
        "start_datetime",
        "end_datetime",
        "created",
        "updated",
        "expires",
        "published",
        "unpublished",
    }
)
#: Integers that a double holds exactly, so that they may stand in one column with fractions.
_EXACT = 1 << 53
#: A column of instants counts microseconds.
_BEYOND_US = re.compile(r"(?<=\.\d{6})\d+")
_GEOMETRY = "proj:geometry"
_NULL, _UNFIT = "null", "unfit"
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a table lacks of an item: a field, or the item itself where ``field`` is empty."""

    item_id: str
    field: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.item_id}: {self.field} {self.reason}" if self.field else f"{self.item_id}: {self.reason}"
        )

    def as_json(self) -> dict[str, str]:
        """Return plain JSON values."""
        return {"id": self.item_id, "field": self.field, "reason": self.reason}


@dataclass(slots=True)
class FieldTypes:
    """How often each field of the items is of which type."""

    _counts: dict[Path, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def count(self, item: Item) -> None:
        """Add an item."""
        for path, value in _walk((), item):
            kind = _find_kind(path, value)
            if kind not in {_NULL, _UNFIT}:
                self._counts[path][kind] += 1

    def fit(self, item: Item, left_out: list[LeftOut]) -> Item:
        """Return ``item`` without what no column can hold; add what that is to ``left_out``."""
        odd: dict[Path, str] = {}
        fitting: Item = self._fit((), item, odd)
        item_id = str(item["id"])
        left_out += [LeftOut(item_id, ".".join(path), reason) for path, reason in odd.items()]
        return fitting

    def _fit(self, path: Path, value: Any, odd: dict[Path, str]) -> Any:
        """Return ``value`` as it fits, ``_ABSENT`` if it does not."""
        kind = _find_kind(path, value)
        if kind == _NULL:
            return None
        usual = self._find_usual(path)
        if kind == _UNFIT or kind != usual:
            odd[path] = _explain(path, value, usual)
            return _ABSENT
        if kind == "instant":
            return _BEYOND_US.sub("", value)
        if kind == "object":
            kept = {name: self._fit((*path, name), inner, odd) for name, inner in value.items()}
            return {name: inner for name, inner in kept.items() if inner is not _ABSENT} or None
        return self._fit_list(path, value, odd) if kind == "list" else value

    def _fit_list(self, path: Path, values: list[Any], odd: dict[Path, str]) -> Any:
        """Return a list as it fits; one with an odd element goes: without it, it would say another thing."""
        inner = (*path, "[]")
        kept = [self._fit(inner, value, odd) for value in values]
        if any(value is _ABSENT for value in kept):
            odd[path] = odd.pop(inner, "holds what fits no column")
            return _ABSENT
        return kept

    def _find_usual(self, path: Path) -> str:
        counts = self._counts.get(path)
        return counts.most_common(1)[0][0] if counts else _UNFIT


def flatten_bbox(item: Item) -> Item:
    """Return ``item`` with four numbers for a bbox: one with heights makes another type of column."""
    bbox = item.get("bbox")
    return {**item, "bbox": [*bbox[:2], *bbox[3:5]]} if isinstance(bbox, list) and len(bbox) == 6 else item


def _walk(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if path == ("geometry",) or path[-1:] == (_GEOMETRY,):
        return
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = (("[]", each) for each in value)
    for name, each in inner:
        yield from _walk((*path, name), each)


def _find_kind(path: Path, value: Any) -> str:
    """Return the type of a column that can hold ``value``."""
    if value is None or value == {}:
        return _NULL
    if path == ("geometry",) or path[-1:] == (_GEOMETRY,):
        return "geometry" if _is_geometry(value) else _UNFIT
    if path[:1] == ("properties",) and len(path) == 2 and path[1] in _INSTANTS:
        return "instant" if _is_instant(value) else _UNFIT
    if isinstance(value, int) and not isinstance(value, bool):
        return (
            "number" if abs(value) <= _EXACT else "long integer" if -(1 << 63) <= value < 1 << 63 else _UNFIT
        )
    kinds = {bool: "truth value", float: "number", str: "text", list: "list", dict: "object"}
    return kinds.get(type(value), _UNFIT)


def _explain(path: Path, value: Any, usual: str) -> str:
    kind = _find_kind(path, value)
    if kind != _UNFIT:
        return f"is of type {kind}, and in other items of type {usual}"
    if path[-1] in _INSTANTS:
        return "is no RFC 3339 instant with its zone"
    return "is no geometry" if isinstance(value, dict) else "is an integer of more than 64 bits"


def _is_geometry(value: Any) -> bool:
    try:
        return not build_shape(value).is_empty
    except ValueError:
        return False


def _is_instant(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(parse_instant(value))
    except ValueError:
        return False
