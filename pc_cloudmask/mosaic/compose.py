"""One block of a mosaic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
from pc_cloudmask.scene.grid import Shape
from pc_cloudmask.scene.ids import MASK_ASSET


@dataclass(frozen=True, slots=True)
class Composite:
    """Pixels of a mosaic.

    ``values``    uint16 ``(band, height, width)``, harmonised digital numbers, 0 where there is none.
    ``count``     uint16 ``(height, width)``, observations that were usable; 0 where there is no value.
    ``residual``  bool ``(height, width)``, where truth calls an observation that made the value cloud or
                  shadow; None where no truth was asked for.
    """

    values: Values
    count: NDArray[np.uint16]
    residual: Usable | None


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes blocks of a mosaic.

    ``truth`` is the asset that knows where cloud and shadow are. ``at_once`` bounds the observations
    whose bands are held while they are chosen from.
    """

    bands: Sequence[str]
    reducer: Reducer
    truth: str | None = None
    at_once: int = 8

    def compose(self, stack: BlockStack, observations: Sequence[Observation]) -> Composite:
        """The composite of what the masks call clear; the first observations are liked best."""
        usable = self._read_masks(stack, observations) == MaskClass.CLEAR
        drop_repeats(usable, [observation.pass_id for observation in observations])
        if self.reducer is Reducer.MEDIAN:
            return self._find_median(stack, observations, usable)
        return self._choose(stack, observations, usable)

    def compose_plain(self, stack: BlockStack, observations: Sequence[Observation]) -> Composite:
        """The median of all that was observed, clouds included."""
        usable = self._read_masks(stack, observations) != MaskClass.NO_DATA
        drop_repeats(usable, [observation.pass_id for observation in observations])
        return self._find_median(stack, observations, usable)

    def _read_masks(self, stack: BlockStack, observations: Sequence[Observation]) -> NDArray[np.uint8]:
        return stack.read_classes(MASK_ASSET, range(len(observations)))

    def _find_median(
        self, stack: BlockStack, observations: Sequence[Observation], usable: Usable
    ) -> Composite:
        values = np.zeros((len(self.bands), *stack.shape), np.uint16)
        residual = np.zeros(stack.shape, bool) if self.truth else None
        numbers = [int(number) for number in np.flatnonzero(usable.any(axis=(1, 2)))]
        if numbers:
            flagged = self._find_flagged(stack, numbers)
            for index, band in enumerate(self.bands):
                read = self._read_values(stack, observations, band, numbers)
                held = read != NO_VALUE
                held &= usable[numbers]
                if residual is not None and flagged is not None:
                    residual |= find_median_flags(read, held, flagged)
                values[index] = find_median(read, held)
                del read, held  # before the next band's, which are as large
        return _finish(values, usable.sum(axis=0), residual)

    def _choose(self, stack: BlockStack, observations: Sequence[Observation], usable: Usable) -> Composite:
        """At each pixel all bands of the first usable observation that has a value in each of them."""
        values = np.zeros((len(self.bands), *stack.shape), np.uint16)
        residual = np.zeros(stack.shape, bool) if self.truth else None
        count = usable.sum(axis=0)
        while True:
            first = np.where(values[0] == NO_VALUE, find_first(usable), -1)
            wanted = [int(number) for number in np.unique(first) if number >= 0]
            if not wanted:
                return _finish(values, count, residual)
            for start in range(0, len(wanted), self.at_once):
                numbers = wanted[start : start + self.at_once]
                read = np.stack(
                    [self._read_values(stack, observations, band, numbers) for band in self.bands], axis=1
                )
                flagged = self._find_flagged(stack, numbers)
                for place, number in enumerate(numbers):
                    chosen = (first == number) & (read[place] != NO_VALUE).all(axis=0)
                    values[:, chosen] = read[place][:, chosen]
                    if residual is not None and flagged is not None:
                        residual[chosen] = flagged[place][chosen]
                    # Whether taken or lacking a band, it need not be looked at there again.
                    usable[number] &= first != number

    def _read_values(
        self, stack: BlockStack, observations: Sequence[Observation], band: str, numbers: Sequence[int]
    ) -> Values:
        values = stack.read_values(band, numbers)
        for place, number in enumerate(numbers):
            harmonise(values[place], observations[number].offset_dn)
        return values

    def _find_flagged(self, stack: BlockStack, numbers: Sequence[int]) -> Usable | None:
        """Where truth calls each observation cloud or shadow."""
        return stack.read_classes(self.truth, numbers) >= MaskClass.CLOUD if self.truth else None


def _finish(values: Values, count: NDArray[np.integer], residual: Usable | None) -> Composite:
    """A composite whose pixels have all bands or none."""
    whole = (values != NO_VALUE).all(axis=0)
    values[:, ~whole] = NO_VALUE
    return Composite(
        values,
        np.where(whole, count, 0).astype(np.uint16),
        None if residual is None else residual & whole,
    )


class BlockStack(Protocol):
    """The pixels of a block's observations, which have numbers from 0 on."""

    @property
    def shape(self) -> Shape:
        """Height and width of the block."""
        ...

    def read_values(self, band: str, numbers: Sequence[int]) -> NDArray[np.uint16]:
        """Digital numbers of some observations, ``(observation, height, width)``, 0 where there is none."""
        ...

    def read_classes(self, asset: str, numbers: Sequence[int]) -> NDArray[np.uint8]:
        """Classes likewise; of several pixels in one of the block, the highest: cloud or shadow."""
        ...
