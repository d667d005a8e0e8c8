"""Whether a mask has data wherever its scene has, or must wait for inputs that are not complete yet.

"No data" in a published mask is final, so it is concluded only from proof: reflectance has none there either, or the
item itself says that so much of its tile is empty. Earth Engine's cloud layers are masked at times, in part or all
over, where reflectance has data; a later run finds them complete.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.statistics import share_out

#: Share of the pixels with reflectance that a mask may leave out: rims of footprints, which archives draw otherwise.
MOST_LACKING = 0.1
#: Share that a mask must have of what the item says has data: pairing by footprint allows for 0.1, rims for as much.
LEAST_OF_ITEM = 0.75
#: What an item leaves to the rims, in percent of its tile: all of a mask may be without data where it has no more.
SLIVER_PCT = 1.0


def find_shortfall(classes: NDArray[np.uint8], lacking_px: int, item_nodata_pct: float | None) -> str | None:
    """Return what a mask lacks, for a scene that has to wait; None for a mask that can be published.

    Args:
        classes: The mask, uint8 of ``MaskClass``.
        lacking_px: Pixels of it without data, though there is reflectance.
        item_nodata_pct: Share of the tile without data, in percent, as the item tells it; None where it does not.
    """
    valid_px = int(np.count_nonzero(classes))
    if lacking_px > MOST_LACKING * (valid_px + lacking_px):
        share = lacking_px / (valid_px + lacking_px)
        return (
            f"its inputs are not complete yet: {share:.0%} of the pixels with reflectance have no cloud layer"
        )
    nodata_pct, _ = share_out([classes.size - valid_px, valid_px])
    if is_too_empty(nodata_pct, item_nodata_pct):
        told = "does not say that it is empty" if item_nodata_pct is None else f"says {item_nodata_pct:.0f} %"
        return (
            f"its inputs are not complete yet: {nodata_pct:.0f} % of the tile have no data, the item {told}"
        )
    return None


def is_too_empty(nodata_pct: float, item_nodata_pct: float | None) -> bool:
    """Return True if a mask has less data than its item promises; where that is silent, if it has none at all."""
    if item_nodata_pct is None:
        return nodata_pct >= 100
    promised_pct = 100 - item_nodata_pct
    return promised_pct > SLIVER_PCT and 100 - nodata_pct < LEAST_OF_ITEM * promised_pct
