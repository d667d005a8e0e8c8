"""JSON values that a fuzzer's bytes spell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

MOST_CHANGES = 4
MOST_DEPTH = 4
MOST_LENGTH = 24
TELLING = [
    *(10**400, -(10**400), 2**63, 2**64, 0, -1, 1e308, -0.0, float("nan"), float("inf")),
    *(
        "",
        "\x00",
        "\ud800",
        "../../x",
        "a/b",
        "file:///etc/passwd",
        "/vsicurl/http://h/x.tif",
        "<VRTDataset/>",
    ),
    *("javascript:alert(1)", "https://u:p@h/x.tif", "https://h/x.tif?sig=a&%73ig=b", "x" * 5000),
    *("EPSG:32722", "EPSG:٣٢٧٢٢", "22KFV", "٢٢KFV", "2018-12-14T13:32:19Z", "9999-12-31T23:59:59-23:59"),
    *("Point", "Polygon", "MultiPolygon", "FeatureCollection", "Feature", "self", "next", "POST"),
]
"""Values that a rule of ours is about."""

Path = tuple[str | int, ...]


def consume_value(data: Any, depth: int = 0) -> Any:
    """Any JSON value, and what Python's reader makes of ``NaN`` and of numbers without end."""
    leaves: list[Callable[[], Any]] = [
        lambda: None,
        data.ConsumeBool,
        lambda: data.ConsumeInt(9),
        data.ConsumeFloat,
        lambda: data.ConsumeIntInRange(-400, 400),
        lambda: data.ConsumeUnicode(MOST_LENGTH),
        lambda: data.PickValueInList(TELLING),
    ]
    nested: list[Callable[[], Any]] = [
        lambda: [consume_value(data, depth + 1) for _ in range(data.ConsumeIntInRange(0, 6))],
        lambda: {
            data.ConsumeUnicode(MOST_LENGTH): consume_value(data, depth + 1)
            for _ in range(data.ConsumeIntInRange(0, 3))
        },
        lambda: _nest(consume_value(data, MOST_DEPTH), data.ConsumeIntInRange(1, 900)),
    ]
    return data.PickValueInList(leaves if depth >= MOST_DEPTH else leaves + nested)()


def consume_changes(data: Any, document: Any) -> Any:
    """A copy of ``document`` with a few of its values replaced, removed or added."""
    document = deepcopy(document)
    for _ in range(data.ConsumeIntInRange(1, MOST_CHANGES)):
        paths = list(_list_paths(document))
        if not paths:
            break
        *steps, last = data.PickValueInList(paths)
        holder = document
        for step in steps:
            holder = holder[step]
        how = data.ConsumeIntInRange(0, 3)
        if how == 0:
            del holder[last]
        elif how == 1 and isinstance(holder, dict):
            holder[data.ConsumeUnicode(MOST_LENGTH)] = consume_value(data)
        else:
            holder[last] = consume_value(data)
    return document


def _list_paths(document: Any, path: Path = ()) -> Iterable[Path]:
    steps = document.items() if isinstance(document, dict) else enumerate(document)
    for step, value in list(steps):
        yield (*path, step)
        if isinstance(value, dict | list) and len(path) < 8:
            yield from _list_paths(value, (*path, step))


def _nest(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value
