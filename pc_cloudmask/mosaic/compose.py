"""One block of a mosaic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import MaskClass
from pc_cloudmask.mosaic.observation import Observation
from pc_cloudmask.mosaic.reducers import (
    NO_VALUE,
    Reducer,
    Usable,
    Values,
    drop_repeats,
    find_first,
    find_median,
    find_median_flags,
    harmonise,
)
from pc_cloudmask.scene.ids import MASK_ASSET

#: Reads an asset of some of a block's observations, by their numbers: ``(observation, height, width)``. Bands are
#: uint16 digital numbers, 0 where there is none; classes are uint8, the highest where several share a pixel.
ReadPixels = Callable[[str, Sequence[int]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Composite:
    """Pixels of a mosaic.

    Attributes:
        values: uint16 ``(band, height, width)``, harmonised digital numbers, 0 where there is none.
        count: uint16 ``(height, width)``, the usable observations; 0 where there is no value.
        residual: bool ``(height, width)``, True where truth calls an observation that made the value cloud or
            shadow; None if no truth was asked for.
    """

    values: Values
    count: NDArray[np.uint16]
    residual: Usable | None


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes blocks of a mosaic.

    Attributes:
        bands: The assets that make the mosaic's bands.
        reducer: How several observations become one.
        truth: The asset that knows where cloud and shadow are.
        at_once: Observations, at most, whose bands are held while they are chosen from.
    """

    bands: Sequence[str]
    reducer: Reducer
    truth: str | None = None
    at_once: int = 8

    def compose(self, read: ReadPixels, observations: Sequence[Observation]) -> Composite:
        """Return the composite of what the masks call clear, of ``observations`` with the best first."""
        usable = _read_masks(read, observations) == MaskClass.CLEAR
        drop_repeats(usable, [observation.pass_id for observation in observations])
        if self.reducer is Reducer.MEDIAN:
            return self._find_median(read, observations, usable)
        return self._choose(read, observations, usable)

    def compose_plain(self, read: ReadPixels, observations: Sequence[Observation]) -> Composite:
        """Return the median of all that was observed, clouds included."""
        usable = _read_masks(read, observations) != MaskClass.NO_DATA
        drop_repeats(usable, [observation.pass_id for observation in observations])
        return self._find_median(read, observations, usable)

    def _find_median(
        self, read: ReadPixels, observations: Sequence[Observation], usable: Usable
    ) -> Composite:
        values, residual = self._start(usable)
        numbers = np.flatnonzero(usable.any(axis=(1, 2))).tolist()
        if numbers:
            flagged = self._read_flags(read, numbers)
            for index, band in enumerate(self.bands):
                pixels = _read_values(read, observations, band, numbers)
                held = pixels != NO_VALUE
                held &= usable[numbers]
                if residual is not None and flagged is not None:
                    residual |= find_median_flags(pixels, held, flagged)
                values[index] = find_median(pixels, held)
                del pixels, held  # before the next band's, which are as large
        return _finish(values, usable.sum(axis=0), residual)

    def _choose(self, read: ReadPixels, observations: Sequence[Observation], usable: Usable) -> Composite:
        """Take at each pixel all bands of the first usable observation that has a value in each of them."""
        values, residual = self._start(usable)
        count = usable.sum(axis=0)
        while True:
            first = np.where(values[0] == NO_VALUE, find_first(usable), -1)
            wanted = [number for number in np.unique(first).tolist() if number >= 0]
            if not wanted:
                return _finish(values, count, residual)
            for start in range(0, len(wanted), self.at_once):
                numbers = wanted[start : start + self.at_once]
                pixels = np.stack(
                    [_read_values(read, observations, band, numbers) for band in self.bands], axis=1
                )
                flagged = self._read_flags(read, numbers)
                for place, number in enumerate(numbers):
                    chosen = (first == number) & (pixels[place] != NO_VALUE).all(axis=0)
                    values[:, chosen] = pixels[place][:, chosen]
                    if residual is not None and flagged is not None:
                        residual[chosen] = flagged[place][chosen]
                    # Taken or lacking a band, it need not be looked at there again.
                    usable[number] &= first != number

    def _start(self, usable: Usable) -> tuple[Values, Usable | None]:
        """Return values and residual of a composite without any value yet."""
        shape = usable.shape[1:]
        return np.zeros((len(self.bands), *shape), np.uint16), np.zeros(shape, bool) if self.truth else None

    def _read_flags(self, read: ReadPixels, numbers: Sequence[int]) -> Usable | None:
        """Return where truth calls each observation cloud or shadow."""
        return read(self.truth, numbers) >= MaskClass.CLOUD if self.truth else None


def _read_masks(read: ReadPixels, observations: Sequence[Observation]) -> NDArray[np.uint8]:
    return read(MASK_ASSET, range(len(observations)))


def _read_values(
    read: ReadPixels, observations: Sequence[Observation], band: str, numbers: Sequence[int]
) -> Values:
    values = read(band, numbers)
    for place, number in enumerate(numbers):
        harmonise(values[place], observations[number].offset_dn)
    return values


def _finish(values: Values, count: NDArray[np.integer], residual: Usable | None) -> Composite:
    """Return a composite whose pixels have all bands or none."""
    complete = (values != NO_VALUE).all(axis=0)
    values[:, ~complete] = NO_VALUE
    return Composite(
        values,
        np.where(complete, count, 0).astype(np.uint16),
        None if residual is None else residual & complete,
    )
