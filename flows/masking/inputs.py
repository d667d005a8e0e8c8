"""What a mask with projected shadows is computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROBABILITY_NODATA = 255
"""Value of a probability pixel that has none."""


@dataclass(frozen=True, slots=True)
class CloudInputs:
    """The inputs of one scene, all uint8 or bool.

    ``probability_pct``         (height, width) at 20 m, 0..100, 255 no data.
    ``dark``                    (height, width) bool: NIR below the threshold and not water.
    ``coarse_probability_pct``  the same probability at 100 m, ``(ceil(h/5), ceil(w/5))``, anchored
                                at the same upper-left corner, 255 no data. Shadows are projected
                                at this scale, as the tutorial does.
    """

    probability_pct: NDArray[np.uint8]
    dark: NDArray[np.bool_]
    coarse_probability_pct: NDArray[np.uint8]
