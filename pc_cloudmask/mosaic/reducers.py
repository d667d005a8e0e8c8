"""How many observations of a pixel become one.

Arrays of observations are ``(observation, height, width)``. An observation is *usable* at a pixel
where it is to count there. Values are digital numbers, uint16, 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.errors import SettingsError

Values = NDArray[np.uint16]
Usable = NDArray[np.bool_]
NO_VALUE = 0
_LARGEST = np.iinfo(np.uint16).max


class Reducer(StrEnum):
    """How a pixel's value is made of its clear observations."""

    MEDIAN = "median"
    LEAST_CLOUDY = "least-cloudy"
    MOST_RECENT_CLEAR = "most-recent-clear"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise SettingsError(f"--reducer {value!r:.40}: choose one of {', '.join(cls)}")


def drop_repeats(usable: Usable, passes: Sequence[Hashable]) -> None:
    """Let each pass count once at a pixel: neighbouring tiles hold the same pixels where they overlap.

    ``passes`` names the satellite's pass of each observation; the first of a pass stays, in place.
    """
    seen: dict[Hashable, Usable] = {}
    for index, name in enumerate(passes):
        if passes.count(name) == 1:
            continue
        if name in seen:
            usable[index] &= ~seen[name]
            seen[name] |= usable[index]
        else:
            seen[name] = usable[index].copy()


def harmonise(values: Values, offset_dn: int) -> None:
    """Add a baseline's offset in place, so that values of all baselines mean the same reflectance.

    What would fall to 0 or below becomes 1: 0 is no value, and noise below zero is still an observation.
    """
    if offset_dn:
        held = values != NO_VALUE
        np.clip(values.astype(np.int32) + offset_dn, 1, _LARGEST, out=values, where=held, casting="unsafe")


def find_median(values: Values, usable: Usable) -> Values:
    """Return the median of the usable observations, ``(height, width)``; 0 where there is none.

    Of an even number it is the mean of the two in the middle, rounded half up. ``values`` is used up.
    """
    lower, upper = _find_middle(values, usable, _LARGEST)
    middle = (lower.astype(np.uint32) + upper + 1) // 2
    return np.where(usable.any(axis=0), middle, NO_VALUE).astype(np.uint16)


def find_median_flags(values: Values, usable: Usable, flagged: Usable) -> Usable:
    """Return where an observation in the middle, one of two of an even number, is flagged, ``(height, width)``."""
    # The flag becomes the lowest bit of what is sorted, so it stays with its value.
    keyed = values.astype(np.uint32) << np.uint32(1) | flagged
    lower, upper = _find_middle(keyed, usable, np.iinfo(np.uint32).max)
    marked: Usable = ((lower | upper) & 1).astype(bool) & usable.any(axis=0)
    return marked


def find_first(usable: Usable) -> NDArray[np.intp]:
    """Return the number of the first usable observation, ``(height, width)``; -1 where there is none."""
    return np.where(usable.any(axis=0), usable.argmax(axis=0), -1)


def _find_middle(
    values: NDArray[np.unsignedinteger], usable: Usable, largest: int
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]:
    """Return the usable value in the middle, or the two of them; sort ``values`` in place."""
    values[~usable] = largest
    values.sort(axis=0)
    count = usable.sum(axis=0)
    lower, upper = (
        np.take_along_axis(values, np.maximum(index, 0)[None], axis=0)[0]
        for index in ((count - 1) // 2, np.minimum(count // 2, len(values) - 1))
    )
    return lower, upper
