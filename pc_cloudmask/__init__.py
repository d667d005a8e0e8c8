"""pc-cloudmask: cloud and cloud-shadow masks for Sentinel-2, published as a static STAC catalog.

``find_items`` and ``find_item`` find published masks, ``read_mask`` reads one, ``load_cube`` loads bands masked by
them, ``measure_area`` reports when an area was clear, and ``changes`` lists what was published, replaced and withdrawn.
``ODC_STAC_CONFIG`` is the configuration that odc-stac needs for items that another reader made. README.md has a map
of the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pc_cloudmask.version import __version__

if TYPE_CHECKING:
    from pc_cloudmask.viewing.clear import measure_area
    from pc_cloudmask.viewing.cube import load_cube, read_mask
    from pc_cloudmask.viewing.follow import changes
    from pc_cloudmask.viewing.library import ODC_STAC_CONFIG, find_item, find_items

__all__ = [
    "ODC_STAC_CONFIG",
    "__version__",
    "changes",
    "find_item",
    "find_items",
    "load_cube",
    "measure_area",
    "read_mask",
]
#: Where public names are defined, if not in the library.
_MODULES = {"changes": "follow", "measure_area": "clear", "load_cube": "cube", "read_mask": "cube"}


def __getattr__(name: str) -> Any:
    """Import the library at first use, so that importing one part of the package does not load all of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"pc_cloudmask.viewing.{_MODULES.get(name, 'library')}"), name)
