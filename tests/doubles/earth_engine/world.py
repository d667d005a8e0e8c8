"""What the local Earth Engine holds: image collections and their pixels."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.images import Collection, Image, StoredBands
from tests.doubles.earth_engine.pyramid import StoredRaster
from tests.doubles.earth_engine.sentinel2 import (
    CLOUD_PROBABILITY,
    CLOUD_SCORE_PLUS,
    L1C,
    L2A,
    Sentinel2,
    build_assets,
)

SENTINEL2_COLLECTIONS = (L2A, L1C, CLOUD_PROBABILITY, CLOUD_SCORE_PLUS)
"""There from the start, if empty; the tutorial's older name of the first is an alias."""
ALIASES = {"COPERNICUS/S2_SR": L2A, "COPERNICUS/S2": L1C}


@dataclass(frozen=True, slots=True, eq=False)
class Asset:
    """One stored image: rasters by band name, properties, a footprint."""

    rasters: Mapping[str, StoredRaster]
    properties: Mapping[str, Any]
    footprint: Geometry

    def load(self, asset_id: str) -> Image:
        """A fresh image of it: what one request computes is not kept for the next."""
        index = {"system:index": asset_id.rsplit("/", 1)[1]}
        return Image(StoredBands(self.rasters), {**self.properties, **index}, self.footprint, asset_id)


class World:
    """Assets by id, ``collection/system:index``; safe to change while requests run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._collections: dict[str, dict[str, Asset]] = {name: {} for name in SENTINEL2_COLLECTIONS}

    def add_asset(self, asset_id: str, asset: Asset) -> None:
        collection, _, index = asset_id.rpartition("/")
        with self._lock:
            self._collections.setdefault(collection, {})[index] = asset

    def remove_asset(self, asset_id: str) -> None:
        collection, _, index = asset_id.rpartition("/")
        with self._lock:
            del self._collections[collection][index]

    def add_sentinel2(self, product: Sentinel2, without: Iterable[str] = ()) -> str:
        """The product's images in all four collections but those of ``without``; its ``system:index``."""
        for collection, (rasters, properties) in build_assets(product).items():
            if collection not in set(without):
                asset = Asset(rasters, properties, product.footprint)
                self.add_asset(f"{collection}/{product.index}", asset)
        return product.index

    def remove_sentinel2(self, index: str) -> None:
        """The images of that ``system:index``, wherever there are any."""
        with self._lock:
            for name in SENTINEL2_COLLECTIONS:
                self._collections[name].pop(index, None)

    def load_image(self, asset_id: str) -> Image:
        """Raises: EarthEngineError, 400, when there is none, as value and pixel requests have it."""
        collection, _, index = asset_id.rpartition("/")
        with self._lock:
            asset = self._collections.get(ALIASES.get(collection, collection), {}).get(index)
        if asset is None:
            raise EarthEngineError(
                f"Image.load: Image asset '{asset_id}' not found "
                "(does not exist or caller does not have access)."
            )
        return asset.load(asset_id)

    def load_collection(self, collection_id: str) -> Collection:
        """The collection's images by time, then index. Raises: EarthEngineError, 400, when there is none."""
        with self._lock:
            found = self._collections.get(ALIASES.get(collection_id, collection_id))
            assets = None if found is None else dict(found)
        if assets is None:
            raise EarthEngineError(
                f"ImageCollection.load: ImageCollection asset '{collection_id}' not found "
                "(does not exist or caller does not have access)."
            )
        ordered = sorted(
            assets.items(), key=lambda entry: (entry[1].properties["system:time_start"], entry[0])
        )
        images = (asset.load(f"{collection_id}/{index}") for index, asset in ordered)
        return Collection(tuple(images), {}, collection_id)
