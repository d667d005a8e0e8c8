"""What each algorithm does, by its name; arguments come in the order of its signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.doubles.earth_engine.functions import (
    arithmetic,
    collections,
    elements,
    filters,
    geometry,
    image,
    joins,
    masks,
    neighbourhood,
    reducers,
    reprojection,
    scalars,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function
    for module in (
        arithmetic,
        collections,
        elements,
        filters,
        geometry,
        image,
        joins,
        masks,
        neighbourhood,
        reducers,
        reprojection,
        scalars,
    )
    for name, function in module.FUNCTIONS.items()
}
