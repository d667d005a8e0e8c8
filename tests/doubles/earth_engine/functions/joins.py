"""Joins of two collections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.doubles.earth_engine.functions.elements import get_property, set_property
from tests.doubles.earth_engine.images import Collection, Element, Feature
from tests.doubles.earth_engine.values import Filter, Join


def _matches(primary: Element, secondary: Collection, condition: Filter) -> list[Element]:
    return [element for element in secondary.elements if condition.holds(primary, element)]


def _sorted(elements: list[Element], key: str | None, ascending: bool) -> list[Element]:
    if key is None:
        return elements
    return sorted(elements, key=lambda element: get_property(element, key), reverse=not ascending)


def _save(pick: Callable[[list[Element]], Any]) -> Callable[..., Join]:
    """A join that keeps what ``pick`` takes of the matches as a property of the primary."""

    def build(key: str, ordering: str | None, ascending: bool, _measure: str | None, outer: bool) -> Join:
        def apply(primary: Collection, secondary: Collection, condition: Filter) -> Collection:
            joined = []
            for element in primary.elements:
                matches = _sorted(_matches(element, secondary, condition), ordering, ascending)
                if matches:
                    joined.append(set_property(element, key, pick(matches)))
                elif outer:
                    joined.append(element)
            return primary.with_elements(joined)

        return Join(apply)

    return build


def _keep(wanted: bool) -> Callable[[], Join]:
    """A join that keeps the primaries that have, or have not, a match."""

    def apply(primary: Collection, secondary: Collection, condition: Filter) -> Collection:
        return primary.with_elements(
            element for element in primary.elements if bool(_matches(element, secondary, condition)) is wanted
        )

    return lambda: Join(apply)


def _inner(primary_key: str, secondary_key: str, _measure: str | None) -> Join:
    def apply(primary: Collection, secondary: Collection, condition: Filter) -> Collection:
        pairs = [
            Feature(None, {primary_key: left, secondary_key: right})
            for left in primary.elements
            for right in _matches(left, secondary, condition)
        ]
        return Collection(tuple(pairs))

    return Join(apply)


def _apply(join: Join, primary: Collection, secondary: Collection, condition: Filter) -> Collection:
    result: Collection = join.apply(primary, secondary, condition)
    return result


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Join.saveFirst": _save(lambda matches: matches[0]),
    "Join.saveAll": _save(list),
    "Join.simple": _keep(True),
    "Join.inverted": _keep(False),
    "Join.inner": _inner,
    "Join.apply": _apply,
}
