"""The inputs of a mask from rasters beside the item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flows.adapters.asset_reader import AssetReader
from flows.adapters.band import Resampling
from flows.errors import AssetRefused
from flows.masking.cloud import find_dark
from flows.masking.inputs import CloudInputs
from flows.masking.parameters import MaskParameters
from flows.masking.pyramid import build_coarse_probability
from flows.scene.granule import Granule, Pairing
from flows.scene.radiometry import reflectance_offset_dn
from flows.scene.scene import Scene
from flows.stac.layout import PROBABILITY_ASSET

NIR_ASSET = "B08"
CLASSES_ASSET = "SCL"

_ROWS = 128
"""Rows that are checked at a time, to need no further raster of the scene's size."""


class ItemInputs:
    """Reads the cloud probability, the near infrared, the scene classes that an item itself carries.

    The probability is what s2cloudless gives: percent, 255 no data, at 10 m, or at 20 m as this package
    publishes it with ``keep_inputs``. It stands in for Earth Engine's COPERNICUS/S2_CLOUD_PROBABILITY.
    """

    def __init__(self, reader: AssetReader, parameters: MaskParameters) -> None:
        self._reader = reader
        self._parameters = parameters

    @staticmethod
    def has_inputs(scene: Scene) -> bool:
        """Whether ``scene`` needs nothing but its own assets."""
        return {PROBABILITY_ASSET, NIR_ASSET, CLASSES_ASSET} <= scene.asset_hrefs.keys()

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """An empty granule for each scene: no image of Earth Engine is needed."""
        return {scene.id: Granule() for scene in scenes}

    def read_inputs(self, scene: Scene, granule: Granule) -> CloudInputs:  # noqa: ARG002 - the port's
        """The inputs on the scene's grid.

        Means of the valid 10 m pixels, rounded half up, are what Earth Engine's pyramid holds at 20 m;
        its levels above follow from them, so a probability published at 20 m gives the same mask.

        Raises:
            AssetUnavailable: an asset could not be read now.
            AssetRefused: an asset is missing, may not be read, or is not what it should be.
        """
        dark = self._read_dark(scene)  # first: the near infrared takes most memory, and is not kept
        probability_pct = self._read_uint8(scene, PROBABILITY_ASSET, "average")
        if not _are_percent(probability_pct):
            raise AssetRefused(f"item {scene.id}: asset {PROBABILITY_ASSET} holds more than 100 percent")
        return CloudInputs(probability_pct, dark, build_coarse_probability(probability_pct))

    def _read_dark(self, scene: Scene) -> NDArray[np.bool_]:
        nir = self._read(scene, NIR_ASSET, "average")
        if nir.dtype != np.uint16:
            raise AssetRefused(f"item {scene.id}: asset {NIR_ASSET} holds {nir.dtype}, not uint16")
        return find_dark(
            nir.astype(np.uint16, copy=False),
            self._read_uint8(scene, CLASSES_ASSET, "nearest"),
            self._parameters.dark_nir_reflectance,
            reflectance_offset_dn(scene.processing_baseline),
        )

    def _read_uint8(self, scene: Scene, key: str, resampling: Resampling) -> NDArray[np.uint8]:
        pixels = self._read(scene, key, resampling)
        if pixels.dtype != np.uint8:
            raise AssetRefused(f"item {scene.id}: asset {key} holds {pixels.dtype}, not uint8")
        return pixels.astype(np.uint8, copy=False)

    def _read(self, scene: Scene, key: str, resampling: Resampling) -> NDArray[np.generic]:
        href = scene.asset_hrefs.get(key)
        if href is None:
            raise AssetRefused(f"item {scene.id}: asset {key} is missing; the mask needs it")
        return self._reader.read_band(href, scene.grid, resampling=resampling, item_id=scene.id)


def _are_percent(values: NDArray[np.uint8]) -> bool:
    """Whether all are 0..100 or 255, no data, which one more makes 0."""
    strips = (values[row : row + _ROWS] + np.uint8(1) for row in range(0, len(values), _ROWS))
    return all(strip.max(initial=0) <= 101 for strip in strips)
