"""A source item of the Planetary Computer's shape, and what is published of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pc_cloudmask.catalog.fields import COG_MEDIA_TYPE, PNG_MEDIA_TYPE, AssetFile, CatalogContext
from pc_cloudmask.catalog.item import DerivedItemParts, build_derived_item, build_fingerprint
from pc_cloudmask.catalog.layout import item_keys
from pc_cloudmask.catalog.valid_fields import keep_valid
from pc_cloudmask.masking.classes import MaskParameters, MaskStatistics
from pc_cloudmask.scene.image import EarthEngineImage
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.item import read_scene

DATA = Path(__file__).parents[1] / "data"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GRANULE = "20181214T133219_20181214T133217_T22KFV"
SECOND_GRANULE = "20181214T133219_20181214T133231_T22KFV"
STATISTICS = MaskStatistics(23.41, 3.72, 72.87, 0.03)

Path_ = tuple[str | int, ...]


def make_source_item() -> Item:
    """A fresh copy of ``tests/data/source-item.json``: an invented scene on a grid that is not square."""
    return deepcopy(_read_source_item())


def derive(source: Item | None = None, **changes: Any) -> Item:
    """The item that is published of ``source``, with other parts where ``changes`` says so."""
    return build_derived_item(make_parts(source, **changes))


def make_parts(source: Item | None = None, **changes: Any) -> DerivedItemParts:
    source = make_source_item() if source is None else source
    scene = read_scene(source)
    keys = item_keys(scene.id, scene.tile, scene.year)
    method, parameters = changes.get("method", "s2cloudless"), MaskParameters()
    parts: dict[str, Any] = {
        "source_item": keep_valid(source).item,
        "scene": scene,
        "keys": keys,
        "method": method,
        "parameters": parameters,
        "ee_image": EarthEngineImage((GRANULE,)),
        "statistics": STATISTICS,
        "software": {"pc-cloudmask": "0.1.0", "earthengine-api": "1.6.0"},
        "mask": AssetFile(keys.mask("1a" * 32), bytes(270_123), COG_MEDIA_TYPE, "1a" * 32),
        "preview": AssetFile(keys.preview("2b" * 32), bytes(20_456), PNG_MEDIA_TYPE, "2b" * 32),
        "probability": None,
        "now": NOW,
        "created": None,
        "fingerprint": build_fingerprint(source, method, parameters),
        "context": CatalogContext(),
    }
    return DerivedItemParts(**parts | changes)


def set_at(document: Any, path: Path_, value: Any) -> Any:
    """A copy of ``document`` with another value at ``path``."""
    changed = deepcopy(document)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return changed


def delete_at(document: Any, path: Path_) -> Any:
    """A copy of ``document`` without what is at ``path``."""
    changed = deepcopy(document)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return changed


def list_paths(document: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every value below ``document``."""
    steps = document.items() if isinstance(document, dict) else enumerate(document)
    for step, value in steps:
        yield (*path, step)
        if isinstance(value, dict | list):
            yield from list_paths(value, (*path, step))


def value_at(document: Any, path: Path_) -> Any:
    for step in path:
        document = document[step]
    return document


@cache
def _read_source_item() -> Item:
    item: Item = json.loads((DATA / "source-item.json").read_text("utf-8"))
    return item
