"""pc-cloudmask: cloud and cloud-shadow masks for Sentinel-2, published as a static STAC catalog.

In Python, ``find_items`` and ``find_item`` find published masks and ``read_mask`` reads one;
``ODC_STAC_CONFIG`` is what odc-stac must be told to load masks beside bands. README.md has the map of the
modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.library import ODC_STAC_CONFIG, find_item, find_items, read_mask

__all__ = ["ODC_STAC_CONFIG", "find_item", "find_items", "read_mask"]


def __getattr__(name: str) -> Any:
    """The library, imported at first use: whoever imports a part of this package pays for no other."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows import library  # noqa: PLC0415 - see above

    return getattr(library, name)
