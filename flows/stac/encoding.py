"""STAC documents as bytes."""

from __future__ import annotations

from typing import Any

import orjson

from flows.errors import SourceRefused
from flows.printable import make_printable

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""More than any catalog or page of items takes; a larger document is a mistake or an attack."""
_SHOWN = 200


def encode_document(document: dict[str, Any]) -> bytes:
    """``document`` as UTF-8 JSON in its own key order, without blanks: equal documents give equal bytes.

    Publishing an item writes its leaf anew, and indentation would make that a fifth larger.
    """
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def decode_document(body: bytes, name: str) -> dict[str, Any]:
    """The JSON object that ``body`` holds, which can be encoded again; ``name`` says in errors which one.

    Of a repeated key the last value counts, as to most readers.

    Raises:
        SourceRefused: too large, not JSON in UTF-8, nested too deep, or not an object.
    """
    shown = make_printable(name, _SHOWN)
    if len(body) > MAX_DOCUMENT_BYTES:
        raise SourceRefused(f"{shown}: {len(body)} bytes are more than {MAX_DOCUMENT_BYTES}")
    try:
        document = orjson.loads(body)
        # orjson reads four times as deep as it writes.
        orjson.dumps(document)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise SourceRefused(f"{shown}: not JSON in UTF-8, or nested too deep: {error}") from error
    if not isinstance(document, dict):
        raise SourceRefused(f"{shown}: holds no JSON object")
    return document
