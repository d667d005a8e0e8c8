"""One block of a mosaic: combine what published scenes observed at each pixel into one value.

Arrays of observations are ``(observation, height, width)``. An observation is *usable* at a pixel
if it counts there. Values are digital numbers, uint16, 0 where there is none.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
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


class Reducer(StrEnum):
    """How a pixel's value is made from its clear observations."""

    MEDIAN = "median"
    LEAST_CLOUDY = "least-cloudy"
    MOST_RECENT_CLEAR = "most-recent-clear"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise SettingsError(f"--reducer {value!r:.40}: choose one of {', '.join(cls)}")


def drop_repeats(usable: Usable, passes: Sequence[Hashable]) -> None:
    """Let each pass count once per pixel: neighbouring tiles hold the same pixels where they overlap.

    ``passes`` names the satellite's pass of each observation; ``usable`` keeps the first of a pass, in place.
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
    """One scene.

    Attributes:
        scene: What its item says.
        keys: Where the item is in the store.
        hrefs: URLs or absolute paths by asset key, unsigned.
        mask_key: Where its mask is in the store.
        clear_pct: Clear pixels in percent of the valid ones.
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

    @property
    def pass_id(self) -> str:
        """Return what all tiles that the satellite saw in one pass have in common."""
        return self.scene.datatake_id

    @property
    def offset_dn(self) -> int:
        """Return the offset that harmonises its digital numbers with those of older baselines: -1000 or 0."""
        return reflectance_offset_dn(self.scene.processing_baseline)


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
    """Pixels of a mosaic.

    Attributes:
        values: uint16 ``(band, height, width)``, harmonised digital numbers, 0 for no data.
        count: uint16 ``(height, width)``, the number of usable observations; 0 where there is no value.
        residual: bool ``(height, width)``, True where the truth says that an observation behind the value is cloud or
            shadow; None if no truth was requested.
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
        truth: The asset with the true clouds and shadows.
        at_once: The most observations whose bands are held while choosing from them.
    """

    bands: Sequence[str]
    reducer: Reducer
    truth: str | None = None
    at_once: int = 8

    def compose(self, read: ReadPixels, observations: Sequence[Observation]) -> Composite:
        """Return the composite of what the masks call clear, from ``observations`` with the best first."""
        usable = _read_masks(read, observations) == MaskClass.CLEAR
        drop_repeats(usable, [observation.pass_id for observation in observations])
        if self.reducer is Reducer.MEDIAN:
            return self._find_median(read, observations, usable)
        return self._choose(read, observations, usable)

    def compose_plain(self, read: ReadPixels, observations: Sequence[Observation]) -> Composite:
        """Return the median of everything that was observed, including clouds."""
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
                del pixels, held  # before the next band's, which are just as large
        return _finish(values, usable.sum(axis=0), residual)

    def _choose(self, read: ReadPixels, observations: Sequence[Observation], usable: Usable) -> Composite:
        """Take, at each pixel, all bands of the first usable observation that has a value in each of them."""
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
                    # Whether taken or lacking a band, it need not be looked at there again.
                    usable[number] &= first != number

    def _start(self, usable: Usable) -> tuple[Values, Usable | None]:
        """Return values and residual of a composite that has no values yet."""
        shape = usable.shape[1:]
        return np.zeros((len(self.bands), *shape), np.uint16), np.zeros(shape, bool) if self.truth else None

    def _read_flags(self, read: ReadPixels, numbers: Sequence[int]) -> Usable | None:
        """Return where the truth says that each observation is cloud or shadow."""
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
