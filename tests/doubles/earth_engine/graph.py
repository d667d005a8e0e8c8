"""Evaluates a serialised expression: the ``{"values": ..., "result": ...}`` of the client's serialiser."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.earth_engine.coercion import coerce
from tests.doubles.earth_engine.errors import EarthEngineError, NotBuilt
from tests.doubles.earth_engine.functions import FUNCTIONS
from tests.doubles.earth_engine.signatures import find_signature
from tests.doubles.earth_engine.world import World

Node = Mapping[str, Any]


@dataclass(eq=False)
class Scope:
    """The arguments of one call, the values computed under it, the scope around it."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    parent: Scope | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def find_argument(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.arguments:
                return scope.arguments[name]
            scope = scope.parent
        raise EarthEngineError(f"Unbound argument '{name}'.")


@dataclass(frozen=True, eq=False)
class Closure:
    """A function that the expression defines, with the scope it was defined in."""

    graph: Graph
    names: tuple[str, ...]
    body: str
    scope: Scope

    def __call__(self, *values: Any) -> Any:
        return self.call(dict(zip(self.names, values, strict=True)))

    def call(self, arguments: Mapping[str, Any]) -> Any:
        return self.graph.reference(self.body, Scope(arguments, self.scope))


class Graph:
    """One expression, evaluated once."""

    def __init__(self, expression: Node, world: World) -> None:
        self._nodes: Mapping[str, Node] = expression.get("values", {})
        self._result = expression.get("result")
        self._loaders: Mapping[str, Callable[..., Any]] = {
            "Image.load": lambda asset_id, _version: world.load_image(asset_id),
            "ImageCollection.load": lambda asset_id, _version: world.load_collection(asset_id),
        }

    def evaluate(self) -> Any:
        """The value of the result.

        Raises:
            EarthEngineError: as the real service would, or ``NotBuilt``.
        """
        if self._result is None:
            raise EarthEngineError("Expression has no result.")
        return self.reference(self._result, Scope())

    def reference(self, name: str, scope: Scope) -> Any:
        """A shared node's value: computed once a scope, so that images share their pixels."""
        if name not in scope.values:
            if name not in self._nodes:
                raise EarthEngineError(f"Expression refers to a value '{name}' that it has not.")
            scope.values[name] = self._evaluate(self._nodes[name], scope)
        return scope.values[name]

    def _evaluate(self, node: Node, scope: Scope) -> Any:
        (kind, content), *rest = node.items()
        if rest or kind not in _KINDS:
            raise EarthEngineError(f"Malformed expression node with {sorted(node)}.")
        return _KINDS[kind](self, content, scope)

    def _constant(self, content: Any, _scope: Scope) -> Any:
        return _whole_numbers(content)

    def _integer(self, content: str, _scope: Scope) -> int:
        return int(content)

    def _bytes(self, content: str, _scope: Scope) -> bytes:
        return base64.b64decode(content)

    def _array(self, content: Node, scope: Scope) -> list[Any]:
        return [self._evaluate(node, scope) for node in content["values"]]

    def _dictionary(self, content: Node, scope: Scope) -> dict[str, Any]:
        return {key: self._evaluate(node, scope) for key, node in content["values"].items()}

    def _argument(self, content: str, scope: Scope) -> Any:
        return scope.find_argument(content)

    def _definition(self, content: Node, scope: Scope) -> Closure:
        return Closure(self, tuple(content["argumentNames"]), content["body"], scope)

    def _invocation(self, content: Node, scope: Scope) -> Any:
        arguments = {name: self._evaluate(node, scope) for name, node in content.get("arguments", {}).items()}
        if "functionReference" in content:
            return self.reference(content["functionReference"], scope).call(arguments)
        return self.call(content["functionName"], arguments)

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The algorithm ``name`` on these arguments, checked against its signature."""
        bound = find_signature(name).bind(arguments)
        function = FUNCTIONS.get(name) or self._loaders.get(name)
        if function is None:
            raise NotBuilt(f"function {name}")
        try:
            values = [coerce(value, argument.type) for argument, value in bound]
            return function(*values)
        except EarthEngineError as error:
            if ": " in error.message or isinstance(error, NotBuilt) or error.code != 400:
                raise
            raise EarthEngineError(f"{name}: {error.message}") from error


_KINDS: dict[str, Callable[[Graph, Any, Scope], Any]] = {
    "constantValue": Graph._constant,
    "integerValue": Graph._integer,
    "bytesValue": Graph._bytes,
    "arrayValue": Graph._array,
    "dictionaryValue": Graph._dictionary,
    "argumentReference": Graph._argument,
    "valueReference": Graph.reference,
    "functionDefinitionValue": Graph._definition,
    "functionInvocationValue": Graph._invocation,
}


def _whole_numbers(value: Any) -> Any:
    """Numbers of JSON have no type: 1500.0 is an integer, as it is to the real service."""
    if isinstance(value, list):
        return [_whole_numbers(part) for part in value]
    if isinstance(value, dict):
        return {key: _whole_numbers(part) for key, part in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
