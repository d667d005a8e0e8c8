"""The inputs of an s2cloudless mask that is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flows.adapters.earth_engine.cost import COARSE_PIXEL_M
from flows.adapters.earth_engine.granules import GranuleFinder
from flows.adapters.earth_engine.graphs import (
    CLOUD_PROBABILITY,
    DARK_BIT,
    build_coarse_probability,
    build_packed_inputs,
)
from flows.adapters.earth_engine.raster import Bytes, PixelDownloader, Raster
from flows.adapters.earth_engine.session import EarthEngineSession
from flows.errors import EngineRefused
from flows.masking.inputs import PROBABILITY_NODATA, CloudInputs
from flows.masking.parameters import MaskParameters
from flows.scene.granule import Granule, Pairing
from flows.scene.scene import Scene


class EarthEngineInputs:
    """A ``CloudInputsSource``: cloud probability and dark ground at 20 m, the probability at 100 m.

    Both scales come from Earth Engine's own pyramid, so the mask equals the one that it would compute.
    """

    def __init__(
        self, session: EarthEngineSession, parameters: MaskParameters, downloader: PixelDownloader
    ) -> None:
        self._session = session
        self._parameters = parameters
        self._downloader = downloader
        self._finder = GranuleFinder(session, CLOUD_PROBABILITY)

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the granule or why there is none yet."""
        return self._finder.find_granules(scenes)

    def read_inputs(self, scene: Scene, granule: Granule) -> CloudInputs:
        """The inputs on the scene's grid; see ``CloudInputsSource``."""
        self._session.start()
        packed, coarse = self._downloader.read_rasters(
            scene.id,
            [
                Raster("cloud inputs", build_packed_inputs(granule, self._parameters), scene.grid),
                Raster(
                    "cloud probability at 100 m",
                    build_coarse_probability(granule),
                    scene.grid.at_pixel_size(COARSE_PIXEL_M),
                ),
            ],
        )
        probability_pct, dark = unpack_inputs(packed)
        for values in (probability_pct, coarse):
            _check_probability(values, scene.id)
        return CloudInputs(probability_pct, dark, coarse)


def unpack_inputs(packed: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
    """Probability (uint8 per cent, 255 no data) and dark (bool) of ``build_packed_inputs``."""
    missing = packed == PROBABILITY_NODATA
    dark = (packed >= DARK_BIT) & ~missing
    probability_pct: Bytes = packed & np.uint8(DARK_BIT - 1)
    probability_pct[missing] = PROBABILITY_NODATA
    return probability_pct, dark


def _check_probability(values: Bytes, scene_id: str) -> None:
    wrong = (values > 100) & (values != PROBABILITY_NODATA)
    if wrong.any():
        raise EngineRefused(f"{scene_id}: Earth Engine gave a cloud probability of {values[wrong].max()} %")
