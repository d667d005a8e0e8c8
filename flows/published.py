"""Reading back what is published."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from flows.adapters.band import Unsuitable, check_raster
from flows.errors import AssetRefused, StoreRefused
from flows.ports import ObjectStore
from flows.publish.publisher import find_published
from flows.stac.layout import MASK_ASSET, ItemKeys


def read_published_mask(store: ObjectStore, keys: ItemKeys) -> NDArray[np.uint8]:
    """The mask of a published item, uint8 ``(height, width)`` of ``MaskClass`` values.

    Raises:
        StoreRefused: the item or its mask is not in the store.
    """
    item = find_published(store, keys)
    if item is None:
        raise StoreRefused(f"{store.url}: {keys.item_id} is not published")
    name = item["assets"][MASK_ASSET]["href"].rpartition("/")[2]
    stored = store.read_object(f"{keys.prefix}{name}")
    if stored is None:
        raise StoreRefused(
            f"{store.url}: the mask of {keys.item_id} is missing; run cloudmask check --repair"
        )
    return decode_mask(stored.body, keys.item_id)


def decode_mask(cog: bytes, item_id: str) -> NDArray[np.uint8]:
    """The pixels of a mask's COG, uint8 ``(height, width)`` of ``MaskClass`` values.

    Raises:
        AssetRefused: it is no such file.
    """
    try:
        with MemoryFile(cog) as memory, memory.open(driver="GTiff") as dataset:
            check_raster(dataset)
            return cast(NDArray[np.uint8], dataset.read(1))
    except (Unsuitable, RasterioError) as error:
        raise AssetRefused(f"item {item_id}: its mask is no mask of ours: {error}") from error
