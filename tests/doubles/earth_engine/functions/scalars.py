"""Lists, dictionaries, strings and dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.doubles.earth_engine.coercion import to_date
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.values import Date, DateRange

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
DAY_MILLIS = 86_400_000


def _list_get(values: list[Any], index: int) -> Any:
    if not -len(values) <= index < len(values):
        raise EarthEngineError(
            f"List.get: List index must be between 0 and {len(values) - 1}, or a negative."
        )
    return values[index]


def _map_list(values: list[Any], function: Callable[[Any], Any], drop_nulls: bool) -> list[Any]:
    mapped = [function(value) for value in values]
    return [value for value in mapped if value is not None] if drop_nulls else mapped


def _iterate(values: Any, function: Callable[[Any, Any], Any], first: Any) -> Any:
    for value in getattr(values, "elements", values):
        first = function(value, first)
    return first


def _distinct(values: list[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _sequence(start: float, end: float | None, step: float, count: int | None) -> list[Any]:
    if count is not None:
        width = (end - start) / (count - 1) if end is not None and count > 1 else step
        return [start + width * n for n in range(count)]
    if end is None:
        raise EarthEngineError("List.sequence: Either end or count must be given.")
    return [start + step * n for n in range(int((end - start) / step) + 1)]


def _zip(left: list[Any], right: list[Any]) -> list[list[Any]]:
    return [list(pair) for pair in zip(left, right, strict=False)]


def _dictionary_get(dictionary: dict[str, Any], key: str, default: Any) -> Any:
    if key not in dictionary and default is None:
        raise EarthEngineError(f"Dictionary.get: Dictionary does not contain key: '{key}'.")
    return dictionary.get(key, default)


def _if(condition: Any, true_case: Any, false_case: Any) -> Any:
    return true_case if condition else false_case


def _date_range(start: Any, end: Any, _zone: str | None) -> DateRange:
    """Without an end, the millisecond of its start, as the service has it."""
    first = to_date(start)
    return DateRange(first, Date(first.millis + 1) if end is None else to_date(end))


def _advance(date: Date, delta: float, unit: str, _zone: str | None) -> Date:
    name = unit.removesuffix("s")
    if name in _UNITS:
        return Date(date.millis + round(delta * _UNITS[name] * 1000))
    moment = datetime.fromtimestamp(date.millis / 1000, UTC)
    months = round(delta) * {"month": 1, "year": 12}[name] + moment.month - 1
    moment = moment.replace(year=moment.year + months // 12, month=months % 12 + 1)
    return Date(round(moment.timestamp() * 1000))


def _format(date: Date, pattern: str | None, _zone: str | None) -> str:
    """Joda's pattern; by default ISO 8601."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=date.millis)
    if pattern is None:
        return moment.strftime("%Y-%m-%dT%H:%M:%S")
    codes = {"YYYY": "%Y", "yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
    text = re.sub("|".join(codes), lambda match: codes[match[0]], pattern.replace("'", ""))
    return moment.strftime(text)


def write_profile(requests: int) -> str:
    """What so many profiled requests cost, in the service's form: a row with no figure is none."""
    return (
        " EECU·s PeakMem Count  Description\n"
        f"  {0.25 * requests:.3f}     47k    44  (plumbing)\n"
        f"  {0.5 * requests:.3f}    124k    14  Algorithm Image.focalMax\n"
        "      -      59k    12  Loading assets\n"
    )


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "If": _if,
    "List.add": lambda values, value: [*values, value],
    "List.cat": lambda values, others: values + others,
    "List.contains": lambda values, value: value in values,
    "List.distinct": _distinct,
    "List.get": _list_get,
    "List.indexOf": lambda values, value: values.index(value) if value in values else -1,
    "List.iterate": _iterate,
    "Collection.iterate": _iterate,
    "List.join": lambda values, separator: separator.join(str(value) for value in values),
    "List.length": len,
    "List.map": _map_list,
    "List.repeat": lambda value, count: [value] * count,
    "List.reverse": lambda values: values[::-1],
    "List.sequence": _sequence,
    "List.size": len,
    "List.slice": lambda values, start, end, step: values[start:end:step],
    "List.sort": lambda values, keys: (
        [value for _, value in sorted(zip(keys, values, strict=True))] if keys else sorted(values)
    ),
    "List.zip": _zip,
    "Dictionary.combine": lambda first, second, overwrite: (
        {**first, **second} if overwrite else {**second, **first}
    ),
    "Dictionary.contains": lambda dictionary, key: key in dictionary,
    "Dictionary.fromLists": lambda keys, values: dict(zip(keys, values, strict=True)),
    "Dictionary.get": _dictionary_get,
    "Dictionary.getNumber": lambda dictionary, key: _dictionary_get(dictionary, key, None),
    "Dictionary.getString": lambda dictionary, key: _dictionary_get(dictionary, key, None),
    "Dictionary.keys": sorted,
    "Dictionary.set": lambda dictionary, key, value: {**dictionary, key: value},
    "Dictionary.size": len,
    "Dictionary.values": lambda dictionary, keys: [dictionary[key] for key in keys or sorted(dictionary)],
    "String": str,
    "String.cat": lambda left, right: left + right,
    "String.length": len,
    "String.replace": lambda text, pattern, new, flags: re.sub(pattern, new, text, count="g" not in flags),
    "String.slice": lambda text, start, end: text[start:end],
    "String.split": lambda text, pattern, _flags: re.split(pattern, text),
    "Number.parse": lambda text, radix: int(text, radix) if text.lstrip("-").isdigit() else float(text),
    "Number.format": lambda number, pattern: pattern % number,
    "Date": lambda value, _zone: to_date(value),
    "Date.advance": _advance,
    "Date.format": _format,
    "Date.millis": lambda date: date.millis,
    "Date.difference": lambda date, start, unit: (
        (date.millis - start.millis) / 1000 / _UNITS[unit.removesuffix("s")]
    ),
    "DateRange": _date_range,
    "Profile.getProfiles": lambda ids, _format, _most: write_profile(len(ids)),
    "DateRange.contains": lambda date_range, other: date_range.contains(to_date(other)),
}
