"""Reducers of columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.values import Reducer

Row = list[Any]


def _to_list(size: int | None, optional: int) -> Reducer:
    """``list`` of the inputs in tuples of ``size``; one that lacks a required input is dropped."""
    inputs = size or 1

    def reduce(rows: list[Row]) -> dict[str, Any]:
        required = inputs - optional
        kept = [row for row in rows if all(value is not None for value in row[:required])]
        return {"list": kept if size else [row[0] for row in kept]}

    return Reducer(inputs, reduce)


def _scalar(name: str, reduce_values: Callable[[Row], Any]) -> Callable[..., Reducer]:
    def build(*_: Any) -> Reducer:
        return Reducer(1, lambda rows: {name: reduce_values([row[0] for row in rows if row[0] is not None])})

    return build


def _repeat(reducer: Reducer, count: int) -> Reducer:
    """Each output becomes a list with one entry for each of ``count`` groups of inputs."""

    def reduce(rows: list[Row]) -> dict[str, Any]:
        size = reducer.inputs
        parts = [reducer.reduce([row[n * size : (n + 1) * size] for row in rows]) for n in range(count)]
        return {name: [part[name] for part in parts] for name in parts[0]}

    return Reducer(reducer.inputs * count, reduce)


def _combine(first: Reducer, second: Reducer, prefix: str, shared: bool) -> Reducer:
    def reduce(rows: list[Row]) -> dict[str, Any]:
        start = 0 if shared else first.inputs
        others = second.reduce([row[start : start + second.inputs] for row in rows])
        outputs = first.reduce([row[: first.inputs] for row in rows])
        return outputs | {f"{prefix}{name}": value for name, value in others.items()}

    return Reducer(first.inputs if shared else first.inputs + second.inputs, reduce)


def _set_outputs(reducer: Reducer, names: list[str]) -> Reducer:
    def reduce(rows: list[Row]) -> dict[str, Any]:
        outputs = list(reducer.reduce(rows).values())
        if len(outputs) != len(names):
            raise EarthEngineError(f"Reducer has {len(outputs)} outputs, not {len(names)}.")
        return dict(zip(names, outputs, strict=True))

    return Reducer(reducer.inputs, reduce)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Reducer.toList": _to_list,
    "Reducer.repeat": _repeat,
    "Reducer.combine": _combine,
    "Reducer.setOutputs": _set_outputs,
    "Reducer.count": _scalar("count", len),
    "Reducer.sum": _scalar("sum", sum),
    "Reducer.min": _scalar("min", lambda values: min(values, default=None)),
    "Reducer.max": _scalar("max", lambda values: max(values, default=None)),
    "Reducer.mean": _scalar("mean", lambda values: sum(values) / len(values) if values else None),
    "Reducer.first": _scalar("first", lambda values: values[0] if values else None),
}
