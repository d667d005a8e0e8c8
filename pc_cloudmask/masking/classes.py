"""The values of a published mask."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

#: Networks of ukis-csmask, by the number of input bands and the size of the pixels that they run on.
CsmaskModel = Literal["6-bands-20m", "4-bands-30m"]
COARSE_MODEL: Final = "4-bands-30m"
RGB = tuple[int, int, int]


class MaskClass(IntEnum):
    """uint8 values of the mask: the classification extension's own example."""

    NO_DATA = 0
    CLEAR = 1
    CLOUD = 2
    CLOUD_SHADOW = 3


@dataclass(frozen=True, slots=True)
class ClassStyle:
    """How a class is named and drawn.

    White clouds vanish on a blank map, so the colours are ones that neither maps nor satellite pictures contain.
    """

    name: str
    title: str
    description: str
    color: RGB
    opaque: bool

    @property
    def color_hint(self) -> str:
        """Return the colour in the classification extension's form, ``RRGGBB``."""
        return "{:02X}{:02X}{:02X}".format(*self.color)


CLASS_STYLES: dict[MaskClass, ClassStyle] = {
    MaskClass.NO_DATA: ClassStyle("no-data", "No data", "Outside the swath, or no input", (0, 0, 0), False),
    MaskClass.CLEAR: ClassStyle("clear", "Clear", "Neither cloud nor cloud shadow", (232, 240, 226), False),
    MaskClass.CLOUD: ClassStyle("cloud", "Cloud", "Within the buffer of a cloud", (255, 64, 160), True),
    MaskClass.CLOUD_SHADOW: ClassStyle(
        "cloud-shadow", "Cloud shadow", "Dark ground within the projection of a cloud", (80, 60, 220), True
    ),
}


@dataclass(frozen=True, slots=True)
class MaskParameters:
    """What a mask depends on: thresholds, by default those of Earth Engine's s2cloudless tutorial, and models.

    ``cloud_probability_pct``  a pixel is cloud where s2cloudless gives more than this (0..100).
    ``dark_nir_reflectance``   NIR reflectance (0..1) below which land is dark enough for a shadow.
    ``shadow_distance_m``      how far from a cloud its shadow may lie.
    ``buffer_m``               growth of the mask. The tutorial dilates by twice this (its
                               ``BUFFER * 2 / 20`` pixels of 20 m), and so do we.
    ``clear_score``            Cloud Score+ at or above which a pixel is clear (0..1).
    ``clear_score_band``       band of Cloud Score+: ``cs_cdf`` varies less over time, ``cs`` reacts more to haze.
    ``csmask_model``           which network of ukis-csmask, on pixels of which size.
    ``model_version``          release of OmniCloudMask's model.
    ``weights_sha256``         SHA-256 of the model's files, in hex, separated by commas; empty for other methods.
    """

    cloud_probability_pct: float = 50.0
    dark_nir_reflectance: float = 0.15
    shadow_distance_m: float = 1000.0
    buffer_m: float = 50.0
    clear_score: float = 0.60
    clear_score_band: str = "cs_cdf"
    csmask_model: CsmaskModel = "6-bands-20m"
    model_version: float = 4.0
    weights_sha256: str = ""


#: Pixel size at which shadows are projected: the tutorial's ``reproject(scale=100)``.
COARSE_PIXEL_M = 100.0
#: Value of a probability pixel without data.
PROBABILITY_NODATA = 255


@dataclass(frozen=True, slots=True)
class CloudInputs:
    """The inputs of one scene, all uint8 or bool.

    ``probability_pct``         (height, width) at 20 m, 0..100, 255 no data.
    ``dark``                    (height, width) bool: NIR below the threshold and not water.
    ``coarse_probability_pct``  the same probability at 100 m, ``(ceil(h/5), ceil(w/5))``, anchored
                                at the same upper-left corner, 255 no data. Shadows are projected
                                at this scale, as the tutorial does.
    ``lacking_px``              pixels at 20 m with reflectance but without a probability.
    """

    probability_pct: NDArray[np.uint8]
    dark: NDArray[np.bool_]
    coarse_probability_pct: NDArray[np.uint8]
    lacking_px: int = 0
