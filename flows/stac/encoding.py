"""STAC documents as bytes."""

from __future__ import annotations

from typing import Any

import orjson

from flows.errors import SourceRefused

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""More than any catalog or page of items takes; a larger document is a mistake or an attack."""


def encode_document(document: dict[str, Any]) -> bytes:
    """``document`` as indented UTF-8 JSON in its own key order: equal documents give equal bytes."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def decode_document(body: bytes, name: str) -> dict[str, Any]:
    """The JSON object that ``body`` holds; ``name`` says in errors which one.

    Raises:
        SourceRefused: too large, not JSON, nested too deep, or not an object.
    """
    if len(body) > MAX_DOCUMENT_BYTES:
        raise SourceRefused(f"{name}: {len(body)} bytes are more than {MAX_DOCUMENT_BYTES}")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SourceRefused(f"{name}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SourceRefused(f"{name}: holds no JSON object")
    return document
