"""The values of a published mask, what they depend on, and how many there are of each.

"No data" in a published mask is final, so it is concluded only from proof: reflectance has none there either, or the
item itself says that so much of its tile is empty. At times Earth Engine's cloud layers are masked, partly or
completely, where reflectance has data; a later run finds them complete.
"""

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
        return bytes(self.color).hex().upper()


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
    """The inputs of one scene.

    ``probability_pct``         uint8 (height, width) at 20 m, 0..100, 255 no data.
    ``dark``                    bool (height, width): NIR below the threshold and not water.
    ``coarse_probability_pct``  uint8 ``(ceil(h/5), ceil(w/5))``, the same probability at 100 m from the same
                                upper-left corner, 255 no data. Shadows are projected at this scale, as in the tutorial.
    ``lacking_px``              pixels at 20 m with reflectance but without a probability.
    """

    probability_pct: NDArray[np.uint8]
    dark: NDArray[np.bool_]
    coarse_probability_pct: NDArray[np.uint8]
    lacking_px: int = 0


#: Decimals of a published percentage: 0.01 % of a tile at 20 m is 3,014 pixels.
DECIMALS = 2
#: A hundred percent in steps of the last decimal.
_UNITS = 100 * 10**DECIMALS
#: Rows counted at a time, so that no second raster of the mask's size is needed.
_ROWS = 128


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """Percentages with ``DECIMALS`` decimals: the first three of the valid pixels, ``nodata_percentage`` of all.

    The first three add up to exactly 100 as decimals; if no pixel is valid, they are 0.
    """

    cloud_percentage: float
    shadow_percentage: float
    clear_percentage: float
    nodata_percentage: float


def measure_mask(classes: NDArray[np.uint8]) -> MaskStatistics:
    """Return the statistics of a mask, uint8 ``(height, width)`` of ``MaskClass``."""
    clear, cloud, shadow = _count_classes(classes)
    valid = clear + cloud + shadow
    cloud_percentage, shadow_percentage, clear_percentage = share_out([cloud, shadow, clear])
    nodata_percentage, _ = share_out([classes.size - valid, valid])
    return MaskStatistics(cloud_percentage, shadow_percentage, clear_percentage, nodata_percentage)


def _count_classes(classes: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Count the pixels that are clear, cloud and shadow: as bits 01, 10, 11.

    Counting bits takes a fifth of the time that comparing with each class does.
    """
    low = high = both = 0
    one = np.uint8(1)
    for row in range(0, len(classes), _ROWS):
        strip = classes[row : row + _ROWS]
        upper = strip >> one
        low += _count_ones(strip & one)
        high += _count_ones(upper)
        both += _count_ones(strip & upper)
    return low - both, high - both, both


def _count_ones(bits: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(bits.view(np.bool_)))


def share_out(counts: list[int]) -> list[float]:
    """Return percentages by the largest remainder method; in a tie the earlier count comes first."""
    total = sum(counts)
    if not total:
        return [0.0] * len(counts)
    units, remainders = zip(*(divmod(count * _UNITS, total) for count in counts), strict=True)
    by_remainder = sorted(range(len(counts)), key=lambda index: -remainders[index])
    rounded_up = by_remainder[: _UNITS - sum(units)]
    return [(unit + (index in rounded_up)) / 10**DECIMALS for index, unit in enumerate(units)]


#: Share of the pixels with reflectance that a mask may omit: rims of footprints, which archives draw differently.
MOST_LACKING = 0.1
#: Share that a mask must have of what the item says has data: pairing by footprint allows for 0.1, rims for as much.
LEAST_OF_ITEM = 0.75
#: If an item has no more data than this, in percent of its tile, its mask may be entirely without data: rims.
SLIVER_PCT = 1.0


def find_shortfall(classes: NDArray[np.uint8], lacking_px: int, item_nodata_pct: float | None) -> str | None:
    """Return what a mask, uint8 of ``MaskClass``, lacks if its scene has to wait; None if it can be published.

    ``lacking_px`` is the number of its pixels without data where there is reflectance, ``item_nodata_pct`` the share of
    the tile without data, in percent, according to the item; None if it does not say.
    """
    valid_px = int(np.count_nonzero(classes))
    problem = None
    nodata_pct, _ = share_out([classes.size - valid_px, valid_px])
    if lacking_px > MOST_LACKING * (valid_px + lacking_px):
        share = lacking_px / (valid_px + lacking_px)
        problem = f"{share:.0%} of the pixels with reflectance have no cloud layer"
    elif is_too_empty(nodata_pct, item_nodata_pct):
        told = "does not say that it is empty" if item_nodata_pct is None else f"says {item_nodata_pct:.0f} %"
        problem = f"{nodata_pct:.0f} % of the tile have no data, the item {told}"
    return problem and f"its inputs are not complete yet: {problem}"


def is_too_empty(nodata_pct: float, item_nodata_pct: float | None) -> bool:
    """Return True if a mask has less data than its item promises; if the item does not say, if it has none at all."""
    if item_nodata_pct is None:
        return nodata_pct >= 100
    promised_pct = 100 - item_nodata_pct
    return promised_pct > SLIVER_PCT and 100 - nodata_pct < LEAST_OF_ITEM * promised_pct
