"""One block of a mosaic: combine what published scenes observed at each pixel into one value.

Arrays of observations are ``(observation, height, width)``. An observation is *usable* at a pixel
if it counts there. Values are digital numbers, uint16, 0 where there is none.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.catalog.layout import ItemKeys
from pc_cloudmask.catalog.search import PublishedItem
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.masking.classes import MaskClass
from pc_cloudmask.scene.scene import MASK_ASSET, Scene, reflectance_offset_dn
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectReader
from stac_ext.cloudmask import CLEAR_PERCENTAGE_PROP

Values = NDArray[np.uint16]
Usable = NDArray[np.bool_]
NO_VALUE = 0
_LARGEST = np.iinfo(np.uint16).max
#: The most observations whose bands are held while choosing from them.
_AT_ONCE = 8


class Reducer(StrEnum):
    """How a pixel's value is made from its clear observations."""

    MEDIAN = "median"
    LEAST_CLOUDY = "least-cloudy"
    MOST_RECENT_CLEAR = "most-recent-clear"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise SettingsError(f"--reducer {value!r:.40}: choose one of {', '.join(cls)}")


def drop_repeats(usable: Usable, passes: Sequence[str]) -> None:
    """Let each pass count once per pixel: neighbouring tiles hold the same pixels where they overlap.

    ``passes`` names the satellite's pass of each observation; ``usable`` keeps the first of a pass, in place.
    """
    for first, later in combinations(range(len(passes)), 2):
        if passes[first] == passes[later]:
            usable[later] &= ~usable[first]


def harmonise(values: Values, offset_dn: int) -> None:
    """Add a baseline's offset in place, so that values of all baselines mean the same reflectance.

    A result of 0 or below becomes 1: 0 is no value, and noise below zero is still an observation.
    """
    if offset_dn:
        held = values != NO_VALUE
        np.clip(values.astype(np.int32) + offset_dn, 1, _LARGEST, out=values, where=held, casting="unsafe")


def find_median(values: Values, usable: Usable) -> Values:
    """Return the median of the usable observations, ``(height, width)``; 0 if there are none.

    For an even number it is the mean of the two in the middle, rounded half up. ``values`` is overwritten.
    """
    lower, upper = _find_middle(values, usable, _LARGEST)
    middle = (lower.astype(np.uint32) + upper + 1) // 2
    return np.where(usable.any(axis=0), middle, NO_VALUE).astype(np.uint16)


def find_median_flags(values: Values, usable: Usable, flagged: Usable) -> Usable:
    """Return where an observation in the middle, one of two for an even number, is flagged, ``(height, width)``."""
    # The flag becomes the lowest bit of the sorted value, so it stays with it.
    keyed = values.astype(np.uint32) << np.uint32(1) | flagged
    lower, upper = _find_middle(keyed, usable, np.iinfo(np.uint32).max)
    marked: Usable = ((lower | upper) & 1).astype(bool) & usable.any(axis=0)
    return marked


def find_first(usable: Usable) -> NDArray[np.intp]:
    """Return the index of the first usable observation, ``(height, width)``; -1 if there is none."""
    return np.where(usable.any(axis=0), usable.argmax(axis=0), -1)


def _find_middle(
    values: NDArray[np.unsignedinteger], usable: Usable, largest: int
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]:
    """Return the usable value in the middle, or the two of them; this sorts ``values`` in place."""
    values[~usable] = largest
    values.sort(axis=0)
    count = usable.sum(axis=0)
    lower, upper = (
        np.take_along_axis(values, np.maximum(index, 0)[None], axis=0)[0]
        for index in ((count - 1) // 2, np.minimum(count // 2, len(values) - 1))
    )
    return lower, upper


#: Level-2A's reflectances and their pixel sizes: the Sentinel-2 Products Specification Document.
BAND_PIXEL_SIZES_M: Mapping[str, int] = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20),
    **dict.fromkeys(("B01", "B09"), 60),
}


@dataclass(frozen=True, slots=True)
class Observation:
    """One scene: what its item says, and where item and mask are in the store.

    ``hrefs`` are URLs or absolute paths by asset key, unsigned; ``clear_pct`` are clear pixels of the valid ones.
    """

    scene: Scene
    keys: ItemKeys
    hrefs: Mapping[str, str] = field(hash=False)
    mask_key: str
    clear_pct: float

    @property
    def id(self) -> str:
        """Return the item's id."""
        return self.scene.id


def check_bands(bands: Sequence[str]) -> None:
    """Raise ``SettingsError`` unless each band is a reflectance of Level-2A, and no band is repeated."""
    known = ", ".join(sorted(BAND_PIXEL_SIZES_M))
    if not bands:
        raise SettingsError(f"--bands: name at least one of {known}")
    for band in bands:
        if band not in BAND_PIXEL_SIZES_M:
            raise SettingsError(f"--bands {band!r:.20}: not a reflectance of Sentinel-2 Level-2A: {known}")
    if len(set(bands)) < len(bands):
        raise SettingsError(f"--bands {','.join(bands)}: one band comes twice")


def read_observation(published: PublishedItem, assets: Sequence[str], store: ObjectReader) -> Observation:
    """Return a published item's observation, with the hrefs of ``assets``.

    Raises:
        SettingsError: It lacks one of ``assets``.
        MissingField, InvalidField: The item is not as we publish them.
    """
    scene, keys = read_scene(published.item), published.keys
    lacking = [name for name in (*assets, MASK_ASSET) if name not in scene.asset_hrefs]
    if lacking:
        bands = ", ".join(sorted(BAND_PIXEL_SIZES_M.keys() & scene.asset_hrefs.keys())) or "no band"
        raise SettingsError(
            f"item {scene.id} has no asset {', '.join(lacking)}; it has {bands}: name others by --bands, "
            "or a --datetime without it"
        )
    clear_pct = published.item["properties"].get(CLEAR_PERCENTAGE_PROP)
    return Observation(
        scene=scene,
        keys=keys,
        hrefs={name: _resolve(scene.asset_hrefs[name], keys, store) for name in assets},
        # Whatever base URL the catalog was published for, the file is in the item's folder.
        mask_key=keys.prefix + scene.asset_hrefs[MASK_ASSET].rpartition("/")[2],
        clear_pct=float(clear_pct) if isinstance(clear_pct, int | float) else 0.0,
    )


def sort_observations(observations: Sequence[Observation], reducer: Reducer) -> list[Observation]:
    """Return the observations sorted by the preference of ``reducer``, the best first; by time if it has none."""
    by_time = sorted(observations, key=lambda observation: (observation.scene.datetime, observation.id))
    if reducer is Reducer.MEDIAN:
        return by_time
    by_time.reverse()
    if reducer is Reducer.LEAST_CLOUDY:
        by_time.sort(key=lambda observation: -observation.clear_pct)
    return by_time


def _resolve(href: str, keys: ItemKeys, store: ObjectReader) -> str:
    """Return ``href`` as the item means it: a relative one points into a directory or to a server, not a bucket."""
    if "://" in href or href.startswith("/"):
        return href
    key = posixpath.normpath(f"{keys.prefix}{href}")
    if isinstance(store, LocalStore):
        return posixpath.normpath(f"{store.root}/{key}")
    if store.url.startswith("http"):
        return f"{store.url}/{key}"
    raise SettingsError(
        f"item {keys.item_id}: {key} lies in {store.url} itself, where mosaics read masks alone: "
        "copy the store to a directory, or name its https URL"
    )


#: Reads an asset of some of a block's observations, by their indexes: ``(observation, height, width)``. Bands are
#: uint16 digital numbers, 0 for no data; classes are uint8, the highest where several share a pixel.
ReadPixels = Callable[[str, Sequence[int]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Composite:
    """Pixels of a mosaic: ``values`` are uint16 ``(band, height, width)``, harmonised digital numbers, 0 for no data.

    ``count`` is the number of usable observations, uint16 ``(height, width)``, 0 where there is no value. ``residual``,
    bool, is True where the truth says that an observation behind the value is cloud or shadow; None without a truth.
    """

    values: Values
    count: NDArray[np.uint16]
    residual: Usable | None


@dataclass(frozen=True, slots=True)
class Composer:
    """Makes blocks of a mosaic; ``truth`` is the asset with the true clouds and shadows, if any."""

    bands: Sequence[str]
    reducer: Reducer
    truth: str | None = None

    def compose(self, read: ReadPixels, observations: Sequence[Observation]) -> Composite:
        """Return the composite of what the masks call clear, from ``observations`` with the best first."""
        clear = read(MASK_ASSET, range(len(observations))) == MaskClass.CLEAR
        return self._combine(read, observations, clear, self.reducer)

    def compose_plain(self, read: ReadPixels, observations: Sequence[Observation]) -> Composite:
        """Return the median of everything that was observed, including clouds."""
        observed = read(MASK_ASSET, range(len(observations))) != MaskClass.NO_DATA
        return self._combine(read, observations, observed, Reducer.MEDIAN)

    def _combine(
        self, read: ReadPixels, observations: Sequence[Observation], usable: Usable, reducer: Reducer
    ) -> Composite:
        """Return the composite of usable observations, whose pixels have all bands or none."""
        drop_repeats(usable, [observation.scene.datatake_id for observation in observations])
        count, shape = usable.sum(axis=0, dtype=np.uint16), usable.shape[1:]
        values = np.zeros((len(self.bands), *shape), np.uint16)
        residual = np.zeros(shape, bool) if self.truth else None
        fill = self._fill_median if reducer is Reducer.MEDIAN else self._fill_first
        fill(read, observations, usable, values, residual)
        complete = (values != NO_VALUE).all(axis=0)
        values[:, ~complete] = NO_VALUE
        count[~complete] = 0
        return Composite(values, count, None if residual is None else residual & complete)

    def _fill_median(
        self,
        read: ReadPixels,
        observations: Sequence[Observation],
        usable: Usable,
        values: Values,
        residual: Usable | None,
    ) -> None:
        numbers = np.flatnonzero(usable.any(axis=(1, 2))).tolist()
        if not numbers:
            return
        flagged = self._read_flags(read, numbers)
        for index, band in enumerate(self.bands):
            pixels = _read_values(read, observations, band, numbers)
            held = pixels != NO_VALUE
            held &= usable[numbers]
            if residual is not None and flagged is not None:
                residual |= find_median_flags(pixels, held, flagged)
            values[index] = find_median(pixels, held)
            del pixels, held  # before the next band's, which are just as large

    def _fill_first(
        self,
        read: ReadPixels,
        observations: Sequence[Observation],
        usable: Usable,
        values: Values,
        residual: Usable | None,
    ) -> None:
        """Take, at each pixel, all bands of the first usable observation that has a value in each of them."""
        while True:
            first = np.where(values[0] == NO_VALUE, find_first(usable), -1)
            wanted = [number for number in np.unique(first).tolist() if number >= 0]
            if not wanted:
                return
            for start in range(0, len(wanted), _AT_ONCE):
                numbers = wanted[start : start + _AT_ONCE]
                pixels = np.stack(
                    [_read_values(read, observations, band, numbers) for band in self.bands], axis=1
                )
                flagged = self._read_flags(read, numbers)
                for place, number in enumerate(numbers):
                    chosen = (first == number) & (pixels[place] != NO_VALUE).all(axis=0)
                    values[:, chosen] = pixels[place][:, chosen]
                    if residual is not None and flagged is not None:
                        residual[chosen] = flagged[place][chosen]
                    # Whether taken or lacking a band, it need not be looked at there again.
                    usable[number] &= first != number

    def _read_flags(self, read: ReadPixels, numbers: Sequence[int]) -> Usable | None:
        """Return where the truth says that each observation is cloud or shadow."""
        return read(self.truth, numbers) >= MaskClass.CLOUD if self.truth else None


def _read_values(
    read: ReadPixels, observations: Sequence[Observation], band: str, numbers: Sequence[int]
) -> Values:
    values = read(band, numbers)
    for place, number in enumerate(numbers):
        harmonise(values[place], reflectance_offset_dn(observations[number].scene.processing_baseline))
    return values
