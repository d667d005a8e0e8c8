"""Which masks have to wait for their inputs."""

from __future__ import annotations

import numpy as np
import pytest

from pc_cloudmask.masking.classes import find_shortfall


def build_mask(valid_pct: float) -> np.ndarray:
    mask = np.zeros((100, 100), np.uint8)
    mask.ravel()[: round(100 * valid_pct)] = 1
    return mask


@pytest.mark.parametrize(
    ("valid_pct", "lacking_pct", "item_nodata_pct", "waits"),
    [
        (100, 0, None, False),
        (100, 0, 0, False),
        # What the reflectance has.
        (0, 100, None, True),
        (50, 50, None, True),
        (75, 25, 0, True),
        (95, 5, 0, False),
        (30, 20, 50, True),
        (4, 0.2, 95, False),
        # What the item has.
        (0, 0, None, True),
        (0, 0, 0, True),
        (0, 0, 40, True),
        (50, 0, 0, True),
        (20, 0, 60, True),
        (40, 0, 60, False),
        (95, 0, 0, False),
        (100, 0, 90, False),
        (0, 0, 99.5, False),
        (0, 0, 100, False),
        (1, 0, None, False),
    ],
)
def test_a_mask_waits_unless_what_it_lacks_is_proven(
    valid_pct: float, lacking_pct: float, item_nodata_pct: float | None, waits: bool
) -> None:
    shortfall = find_shortfall(build_mask(valid_pct), round(100 * lacking_pct), item_nodata_pct)
    assert (shortfall is not None) == waits
