"""What is downloaded from Earth Engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import ee
import numpy as np
from numpy.typing import NDArray

from flows.scene.grid import Grid

BAND = "value"
"""Name of the only band that every image of ours has."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Raster:
    """What to download: an image of the one band ``BAND``, a byte a pixel, on ``grid``."""

    name: str
    image: ee.Image
    grid: Grid


class PixelDownloader(Protocol):
    """Downloads rasters."""

    def read_rasters(self, scene_id: str, rasters: Sequence[Raster]) -> list[Bytes]:
        """The rasters whole, uint8 of the shape of each one's grid.

        Raises:
            EngineUnavailable: try again later.
            EngineRefused: never.
        """
        ...
