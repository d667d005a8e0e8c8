"""Lazy images: bands that compute their pixels for a window when asked.

Every band is computed in the projection that is asked for, unless ``reproject`` pins it to its own.
Masks are fractions; a binary operation has the smaller of its inputs' masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike

from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.grids import Projection, Window
from tests.doubles.earth_engine.pyramid import Pixels, StoredRaster

KEPT_WINDOWS = 3
"""Within one block a band is read at its own scale, at another one, and grown by a margin."""
WGS84 = Projection("EPSG:4326")
"""Projection of constants, and of anything without one of its own."""


@dataclass(frozen=True, slots=True)
class PixelType:
    """Precision (``int``, ``float``, ``double``) with the range that integers are known to keep to."""

    precision: str
    min: float | None = None
    max: float | None = None

    @classmethod
    @cache
    def of(cls, dtype: DTypeLike) -> PixelType:
        kind = np.dtype(dtype)
        if np.issubdtype(kind, np.integer):
            limits = np.iinfo(kind)
            return cls("int", int(limits.min), int(limits.max))
        return cls("double" if kind.itemsize == 8 else "float")

    @property
    def is_integer(self) -> bool:
        return self.precision == "int"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest NumPy type that holds it."""
        if not self.is_integer or self.min is None or self.max is None:
            return np.dtype({"double": np.float64, "float": np.float32}.get(self.precision, np.int64))
        for name in ("u1", "i1", "u2", "i2", "u4", "i4"):
            limits = np.iinfo(name)
            if limits.min <= self.min and self.max <= limits.max:
                return np.dtype(name)
        return np.dtype(np.int64)

    def union(self, other: PixelType) -> PixelType:
        """The type that holds both."""
        for precision in ("double", "float"):
            if precision in (self.precision, other.precision):
                return PixelType(precision)
        bounds = (self.min, self.max, other.min, other.max)
        if None in bounds:
            return PixelType("int")
        return PixelType("int", min(self.min, other.min), max(self.max, other.max))  # type: ignore[type-var]


FLAG = PixelType("int", 0, 1)
"""Type of comparisons and logic."""


@dataclass(frozen=True, eq=False)
class Band:
    """One band; ``read`` keeps the last windows that it computed, for graphs share their nodes."""

    name: str
    pixel_type: PixelType
    projection: Projection
    compute: Callable[[Window], Pixels]
    dimensions: tuple[int, int] | None = None
    _cache: dict[Window, Pixels] = field(default_factory=dict, repr=False)

    def read(self, window: Window) -> Pixels:
        if window not in self._cache:
            pixels = self.compute(window)
            if len(self._cache) == KEPT_WINDOWS:
                del self._cache[next(iter(self._cache))]
            self._cache[window] = pixels
        return self._cache[window]

    def derive(self, compute: Callable[[Window], Pixels], pixel_type: PixelType | None = None) -> Band:
        """A band of the same name and projection with other pixels."""
        return Band(self.name, pixel_type or self.pixel_type, self.projection, compute)

    def renamed(self, name: str) -> Band:
        return Band(name, self.pixel_type, self.projection, self.read, self.dimensions)


@dataclass(frozen=True, eq=False)
class Image:
    """Bands with properties and a footprint; None as footprint is everywhere."""

    bands: Sequence[Band]
    properties: Mapping[str, Any] = field(default_factory=dict)
    footprint: Geometry | None = None
    id: str | None = None

    @property
    def band_names(self) -> list[str]:
        return [band.name for band in self.bands]

    @property
    def projection(self) -> Projection:
        """The default projection: the first band's."""
        return self.bands[0].projection if self.bands else WGS84

    def block_of(self, band: Band) -> Window | None:
        """The pixels of a band in its own projection: the asset's, else those of the footprint, if any."""
        if band.dimensions:
            return Window(band.projection, 0, 0, *band.dimensions)
        return self.footprint.block_in(band.projection) if self.footprint else None

    def with_bands(self, bands: Iterable[Band]) -> Image:
        """The same element with other bands."""
        return replace(self, bands=tuple(bands))

    def bare(self, bands: Iterable[Band]) -> Image:
        """A computed image: it keeps the footprint alone."""
        return Image(tuple(bands), {}, self.footprint)


@dataclass(frozen=True, eq=False)
class Feature:
    """An element without pixels."""

    geometry: Geometry | None
    properties: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


Element = Image | Feature


@dataclass(frozen=True, eq=False)
class Collection:
    """Elements in order."""

    elements: tuple[Element, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None

    @property
    def is_images(self) -> bool:
        return all(isinstance(element, Image) for element in self.elements)

    def with_elements(self, elements: Iterable[Element]) -> Collection:
        return replace(self, elements=tuple(elements))


class StoredBands(Sequence[Band]):
    """The bands of an asset, made when one is asked for: most images of a collection are filtered out unread."""

    def __init__(self, rasters: Mapping[str, StoredRaster]) -> None:
        self._rasters = rasters

    @cached_property
    def _bands(self) -> tuple[Band, ...]:
        return tuple(_stored_band(name, raster) for name, raster in self._rasters.items())

    def __len__(self) -> int:
        return len(self._rasters)

    @overload
    def __getitem__(self, index: int) -> Band: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Band, ...]: ...
    def __getitem__(self, index: int | slice) -> Band | tuple[Band, ...]:
        return self._bands[index]


def _stored_band(name: str, raster: StoredRaster) -> Band:
    return Band(name, PixelType.of(raster.values.dtype), raster.projection, raster.read, raster.dimensions)


def constant_band(value: float, name: str = "constant") -> Band:
    """A band that has one value everywhere."""
    whole = float(value).is_integer()
    pixel_type = PixelType("int", int(value), int(value)) if whole else PixelType("double")

    def compute(window: Window) -> Pixels:
        return Pixels(np.full(window.shape, float(value)), np.ones(window.shape, np.float32))

    return Band(name, pixel_type, WGS84, compute)


def constant_image(values: float | Sequence[float]) -> Image:
    """``constant``, or ``constant_0``, ``constant_1`` … for several values."""
    if isinstance(values, Sequence):
        return Image(tuple(constant_band(value, f"constant_{n}") for n, value in enumerate(values)))
    return Image((constant_band(values),))
