"""Conditions on elements, and on pairs of elements in joins.

A filter has a left and a right operand, each a property or a value. On one element both fields are
its own; in a join the left field is the primary's, the right one the secondary's. A property that is
not there fulfils no comparison.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from tests.doubles.earth_engine.coercion import to_date, to_geometry
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.functions.elements import get_property
from tests.doubles.earth_engine.images import Element
from tests.doubles.earth_engine.values import Date, DateRange, Filter

ANY_GEOMETRY = (".all", ".geo")
"""Fields that mean an element's geometry."""


def _field(element: Element, name: str) -> Any:
    return to_geometry(element) if name in ANY_GEOMETRY else get_property(element, name)


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[..., Filter]:
    """A filter that compares its left operand with its right one."""

    def build(
        left_field: str | None, right_value: Any, right_field: str | None, left_value: Any, *_: Any
    ) -> Filter:
        if (left_field is None) == (left_value is None) or (right_field is None) == (right_value is None):
            raise EarthEngineError("Each operand must be either a field or a value.")

        def holds(left: Element, right: Element) -> bool:
            one = left_value if left_field is None else _field(left, left_field)
            other = right_value if right_field is None else _field(right, right_field)
            return one is not None and other is not None and compare(one, other)

        return Filter(holds)

    return build


def _plain(value: Any) -> Any:
    return value.millis if isinstance(value, Date) else value


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison of numbers with numbers, or of strings with strings."""

    def holds(left: Any, right: Any) -> bool:
        one, other = _plain(left), _plain(right)
        comparable = isinstance(one, int | float) == isinstance(other, int | float)
        return comparable and bool(compare(one, other))

    return holds


def _in_range(date_range: Any, moment: Any) -> bool:
    return isinstance(date_range, DateRange) and date_range.contains(to_date(moment))


def _intersects(left: Any, right: Any) -> bool:
    return to_geometry(left).intersects(to_geometry(right))


def _range_contains(field: str, low: Any, high: Any) -> Filter:
    def holds(element: Element, _right: Element) -> bool:
        value = _field(element, field)
        return value is not None and bool(_plain(low) <= _plain(value) <= _plain(high))

    return Filter(holds)


def _all(filters: list[Filter]) -> Filter:
    return Filter(lambda left, right: all(part.holds(left, right) for part in filters))


def _any(filters: list[Filter]) -> Filter:
    return Filter(lambda left, right: any(part.holds(left, right) for part in filters))


def _not(part: Filter) -> Filter:
    return Filter(lambda left, right: not part.holds(left, right))


def _not_null(properties: list[str]) -> Filter:
    return Filter(lambda left, _: all(_field(left, name) is not None for name in properties))


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("eq", "equals"), _ordered(operator.eq)),
    **dict.fromkeys(("neq", "notEquals"), _ordered(operator.ne)),
    **dict.fromkeys(("lt", "lessThan"), _ordered(operator.lt)),
    **dict.fromkeys(("lte", "lessThanOrEquals"), _ordered(operator.le)),
    **dict.fromkeys(("gt", "greaterThan"), _ordered(operator.gt)),
    **dict.fromkeys(("gte", "greaterThanOrEquals"), _ordered(operator.ge)),
    "inList": lambda left, right: left in right,
    "listContains": lambda left, right: right in left,
    "stringContains": lambda left, right: right in left,
    "stringStartsWith": lambda left, right: left.startswith(right),
    "stringEndsWith": lambda left, right: left.endswith(right),
    "dateRangeContains": _in_range,
    "intersects": _intersects,
}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"Filter.{name}": _comparison(compare) for name, compare in _COMPARISONS.items()},
    "Filter.rangeContains": _range_contains,
    "Filter.and": _all,
    "Filter.or": _any,
    "Filter.not": _not,
    "Filter.notNull": _not_null,
    "Filter.always": lambda: Filter(lambda _left, _right: True),
    "Filter.never": lambda: Filter(lambda _left, _right: False),
}
