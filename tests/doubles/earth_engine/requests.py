"""Requests as the server logs them."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Request:
    """One request; ``status`` and ``fault`` are filled in as it is answered (status 0: no answer)."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    pixels: int | None = None
    status: int = 0
    fault: str | None = None

    @property
    def expression(self) -> Mapping[str, Any] | None:
        """The serialised graph."""
        return self.body.get("expression")

    @property
    def grid(self) -> Mapping[str, Any] | None:
        """The pixel grid: ``crsCode``, ``affineTransform``, ``dimensions``."""
        return self.body.get("grid")

    @property
    def functions(self) -> set[str]:
        """Names of the functions that the graph calls."""
        return set(_function_names(self.expression))

    @property
    def size(self) -> int:
        """Bytes of the graph."""
        return len(json.dumps(self.expression))


def grid_pixels(body: Mapping[str, Any]) -> int | None:
    """Pixels that a body's grid asks for."""
    dimensions = (body.get("grid") or {}).get("dimensions")
    return math.prod(int(value) for value in dimensions.values()) if dimensions else None


def _function_names(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("functionName"), str):
            yield node["functionName"]
        for part in node.values():
            yield from _function_names(part)
    elif isinstance(node, list):
        for part in node:
            yield from _function_names(part)


class RequestLog:
    """Every request since the last ``clear``, and how many were under way at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._in_flight = 0
        self.peak_in_flight = 0

    @property
    def in_flight(self) -> int:
        """Requests that are under way now."""
        with self._lock:
            return self._in_flight

    def begin(self, request: Request) -> int:
        """Log a request; how many are under way with it."""
        with self._lock:
            self._requests.append(request)
            self._in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
            return self._in_flight

    def end(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
            self.peak_in_flight = self._in_flight

    def to(self, path: str) -> list[Request]:
        """The requests whose path contains ``path``, oldest first."""
        return [request for request in self if path in request.path]

    def __iter__(self) -> Iterator[Request]:
        with self._lock:
            return iter(list(self._requests))

    def __len__(self) -> int:
        with self._lock:
            return len(self._requests)
