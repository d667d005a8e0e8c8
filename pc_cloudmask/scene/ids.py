"""The form of an MGRS tile's name."""

from __future__ import annotations

import re
from typing import Any

from pc_cloudmask.errors import InvalidField

#: Zone, latitude band, and the 100 km square within them, such as ``22KFV``.
TILE_FORM = re.compile(r"(?:0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]")


def check_tile(tile: str, item_id: str = "?") -> str:
    """Return ``tile`` if it is an MGRS tile such as ``22KFV``; it becomes part of a key.

    Raises:
        InvalidField: it is none.
    """
    if not TILE_FORM.fullmatch(tile):
        raise InvalidField(item_id, "s2:mgrs_tile", f"{tile!r:.40} is not an MGRS tile such as 22KFV")
    return tile


def check_item_id(item_id: Any) -> str:
    """Return ``item_id`` if letters, digits, ``_`` and ``-`` alone spell it; it becomes part of a key.

    Raises:
        InvalidField: it is spelled otherwise, or is a name that the catalog keeps for itself.
    """
    if not isinstance(item_id, str) or not _ITEM_ID.fullmatch(item_id):
        shown = repr(item_id)[:60] if isinstance(item_id, str) else "?"
        raise InvalidField(shown, "id", "is not 1 to 128 letters, digits, '_' or '-'")
    if _RESERVED_ID.fullmatch(item_id):
        raise InvalidField(item_id, "id", "is a name that the catalog keeps for itself")
    return item_id


def is_item_id(text: str) -> bool:
    """Return True if ``text`` may be an item's id."""
    return bool(_ITEM_ID.fullmatch(text)) and not _RESERVED_ID.fullmatch(text)


_ITEM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
#: Names of marks in an item's folder, where its document has its own id for a name.
_RESERVED_ID = re.compile(r"withdrawn|superseded-by-.*")
#: Keys of the assets that we publish in an item.
MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET = "cloudmask", "cloudmask-preview", "cloud-probability"
