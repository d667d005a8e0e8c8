"""Argument names, types and defaults, read from the documents that the client's wheel ships."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ee

from tests.doubles.earth_engine.errors import EarthEngineError

_DOCUMENTS = Path(ee.__file__).parent / "tests"


@cache
def read_discovery_document() -> dict[str, Any]:
    """The REST description that the client builds its calls from."""
    document: dict[str, Any] = json.loads(
        (_DOCUMENTS / "cloud_api_discovery_document.json").read_text("utf-8")
    )
    return document


@cache
def read_algorithms() -> dict[str, Any]:
    """Every algorithm as ``projects.algorithms.list`` answers it."""
    document: dict[str, Any] = json.loads((_DOCUMENTS / "algorithms.json").read_text("utf-8"))
    return document


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an algorithm."""

    name: str
    type: str
    optional: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of an algorithm, in order."""

    name: str
    arguments: tuple[Argument, ...]

    def bind(self, given: Mapping[str, Any]) -> list[tuple[Argument, Any]]:
        """Every argument with its value.

        Raises:
            EarthEngineError: an unknown argument, or none (or null) for a required one.
        """
        unknown = set(given) - {argument.name for argument in self.arguments}
        if unknown:
            raise EarthEngineError(f"{self.name}: Unrecognized argument '{sorted(unknown)[0]}'.")
        bound = []
        for argument in self.arguments:
            value = given.get(argument.name)
            if value is None:
                if not argument.optional:
                    raise EarthEngineError(
                        f"{self.name}: Parameter '{argument.name}' is required and may not be null."
                    )
                value = argument.default
            bound.append((argument, value))
        return bound


@cache
def _signatures() -> dict[str, Signature]:
    return {
        name: Signature(
            name,
            tuple(
                Argument(
                    argument["argumentName"],
                    argument["type"],
                    argument.get("optional", False),
                    argument.get("defaultValue"),
                )
                for argument in algorithm.get("arguments", [])
            ),
        )
        for algorithm in read_algorithms()["algorithms"]
        for name in [algorithm["name"].removeprefix("algorithms/")]
    }


def find_signature(name: str) -> Signature:
    """The signature of an algorithm of the real service.

    Raises:
        EarthEngineError: there is none of that name.
    """
    try:
        return _signatures()[name]
    except KeyError:
        raise EarthEngineError(f"Unrecognized function name '{name}'.") from None
