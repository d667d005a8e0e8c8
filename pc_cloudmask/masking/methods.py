"""The three ports: where scenes come from, what derives a mask, where objects go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import CloudInputs
from pc_cloudmask.scene.image import EarthEngineImage, Pairing
from pc_cloudmask.scene.scene import Scene


@dataclass(frozen=True, slots=True)
class DerivedMask:
    """A mask, and how it was made.

    ``classes`` is uint8 ``(height, width)`` on the scene's grid with values of ``MaskClass``.
    ``software`` maps a package or model to its version, for ``processing:software``.
    ``inputs`` is kept where the engine has them, to publish the probability beside the mask.
    """

    classes: NDArray[np.uint8]
    ee_image: EarthEngineImage = field(default_factory=EarthEngineImage)
    software: Mapping[str, str] = field(default_factory=dict)
    inputs: CloudInputs | None = None


class CloudInputsSource(Protocol):
    """Gives the inputs of a mask with projected shadows: Earth Engine, or rasters beside the item."""

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the Earth Engine image or why there is none yet; one round trip for many scenes."""
        ...

    def read_inputs(self, scene: Scene, ee_image: EarthEngineImage) -> CloudInputs:
        """The inputs on the scene's grid.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        ...


class MaskEngine(Protocol):
    """Derives masks by one method."""

    @property
    def method(self) -> str:
        """``s2cloudless``, ``cloud-score-plus`` or ``csmask``."""
        ...

    def find_images(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the Earth Engine image or why there is none yet."""
        ...

    def derive_mask(self, scene: Scene, ee_image: EarthEngineImage) -> DerivedMask:
        """The mask of one scene.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        ...
