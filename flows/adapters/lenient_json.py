"""JSON as others write it: one bad value costs the item that holds it, not the page."""

from __future__ import annotations

import json
from typing import Any

import orjson


def parse_json(body: bytes | str) -> Any:
    """The value that a JSON text in UTF-8 holds; where it has NaN, infinity or half a character, so has that.

    JSON has none of these, but Python's own encoder writes them. An item that holds one is refused by
    ``flows.stac.source_item.read_scene``.

    Raises:
        ValueError: no JSON even so, or nested beyond 1024 levels.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(body.decode("utf-8") if isinstance(body, bytes) else body)
        except (ValueError, RecursionError):
            raise error from None
