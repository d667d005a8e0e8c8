"""The catalog's templates."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import orjson

Document = dict[str, Any]


def read_catalog_template() -> Document:
    """A fresh copy of the root catalog's template."""
    return _read_json("catalog.json")


def read_collection_template() -> Document:
    """A fresh copy of the collection's template, its description filled in."""
    return {**_read_json("collection.json"), "description": _read_text("description.md").strip()}


@cache
def root_title() -> str:
    """What links to the root call it."""
    return str(_read_json("catalog.json")["title"])


@cache
def collection_title() -> str:
    """What links to the collection call it."""
    return str(_read_json("collection.json")["title"])


def _read_json(name: str) -> Document:
    document: Document = orjson.loads(_read_text(name))
    return document


@cache
def _read_text(name: str) -> str:
    return files("catalog_templates").joinpath(name).read_text("utf-8")
