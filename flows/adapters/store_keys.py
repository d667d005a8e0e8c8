"""Keys that a store accepts."""

from __future__ import annotations

import re

from flows.errors import StoreRefused

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,199}")
"""A segment never begins with a dot: neither ``..`` nor hidden names can be spelled."""


def check_key(key: str) -> str:
    """``key`` if it is a relative path of plain segments.

    Raises:
        StoreRefused: it is absolute, holds an empty or hidden segment, ``..`` or a strange character.
    """
    if all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        return key
    raise StoreRefused(
        f"key {key[:120]!r} is refused: segments are letters, digits and _.=+-, and begin with no dot"
    )


def check_prefix(prefix: str) -> str:
    """``prefix`` if keys can begin with it; the empty one means the whole store.

    Raises:
        StoreRefused: no key could begin with it.
    """
    head, _, tail = prefix.rpartition("/")
    if head:
        check_key(head)
    if tail:
        check_key(tail)
    if prefix.startswith("/"):
        raise StoreRefused(f"prefix {prefix[:120]!r} is refused: keys never begin with a slash")
    return prefix
