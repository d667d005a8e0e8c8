"""Masks of single images, and one image laid over another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.doubles.earth_engine.coercion import to_geometry
from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.functions.arithmetic import pair_bands
from tests.doubles.earth_engine.grids import Window
from tests.doubles.earth_engine.images import Band, Image, PixelType, constant_image
from tests.doubles.earth_engine.pyramid import Pixels


def get_mask(image: Image, mask: Image | None) -> Image:
    """The mask as values 0..1 that are valid everywhere; or the image with another mask."""
    if mask is not None:
        return _remasked(image, mask, keep=False)

    def mask_band(band: Band) -> Band:
        def compute(window: Window) -> Pixels:
            pixels = band.read(window)
            return Pixels(pixels.mask.astype(np.float64), np.ones_like(pixels.mask))

        return band.derive(compute, PixelType("float", 0, 1))

    return image.bare(mask_band(band) for band in image.bands)


def update_mask(image: Image, mask: Image) -> Image:
    """The mask's values where the image is not masked already."""
    return _remasked(image, mask, keep=True)


def _remasked(image: Image, mask: Image, *, keep: bool) -> Image:
    def masked(band: Band, by: Band) -> Band:
        def compute(window: Window) -> Pixels:
            pixels, new = band.read(window), by.read(window)
            mask = np.clip(new.values * new.valid, 0, 1).astype(np.float32)
            return Pixels(pixels.values, np.where(pixels.valid, mask, 0) if keep else mask)

        return band.derive(compute)

    if len(mask.bands) not in (1, len(image.bands)):
        raise EarthEngineError("The mask must have one band, or as many as the image.")
    return image.with_bands(masked(band, by) for band, by in pair_bands(image, mask))


def self_mask(image: Image) -> Image:
    return update_mask(image, image)


def unmask(image: Image, value: Image | None, same_footprint: bool) -> Image:
    """The value where the image is masked; by default only within the image's footprint."""
    value = value or constant_image(0)

    def filled(band: Band, other: Band) -> Band:
        def compute(window: Window) -> Pixels:
            pixels, fill = band.read(window), other.read(window)
            empty = ~pixels.valid
            if same_footprint and image.footprint is not None:
                empty &= image.footprint.covers(window)
            return Pixels(
                np.where(empty, fill.values, pixels.values), np.where(empty, fill.mask, pixels.mask)
            )

        return band.derive(compute, band.pixel_type.union(other.pixel_type))

    bands = [filled(band, other) for band, other in pair_bands(image, value)]
    result = image.with_bands(bands)
    return result if same_footprint else Image(result.bands, result.properties, value.footprint)


def where(image: Image, test: Image, value: Image) -> Image:
    """The value where the test is not zero; where one of the three is masked, the image as it was."""

    def replaced(band: Band, condition: Band, other: Band) -> Band:
        def compute(window: Window) -> Pixels:
            pixels, tested, new = band.read(window), condition.read(window), other.read(window)
            taken = tested.valid & (tested.values != 0) & new.valid & pixels.valid
            return Pixels(np.where(taken, new.values, pixels.values), pixels.mask)

        return band.derive(compute, band.pixel_type.union(other.pixel_type))

    return image.with_bands(
        replaced(band, condition, other)
        for (band, condition), (_, other) in zip(
            pair_bands(image, test), pair_bands(image, value), strict=True
        )
    )


def blend(bottom: Image, top: Image) -> Image:
    """The top where it is not masked."""
    return bottom.with_bands(overlaid(lower, upper) for lower, upper in pair_bands(bottom, top))


def overlaid(lower: Band, upper: Band) -> Band:
    def compute(window: Window) -> Pixels:
        below, above = lower.read(window), upper.read(window)
        return Pixels(
            np.where(above.valid, above.values, below.values), np.where(above.valid, above.mask, below.mask)
        )

    return lower.derive(compute, lower.pixel_type.union(upper.pixel_type))


def clip(image: Image, geometry: Any) -> Image:
    """Masked outside the geometry, which becomes the footprint."""
    boundary = to_geometry(geometry)

    def clipped(band: Band) -> Band:
        def compute(window: Window) -> Pixels:
            pixels = band.read(window)
            return Pixels(pixels.values, np.where(boundary.covers(window), pixels.mask, 0))

        return band.derive(compute)

    footprint = boundary if image.footprint is None else image.footprint.intersection(boundary)
    return Image(tuple(clipped(band) for band in image.bands), image.properties, footprint, image.id)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.blend": blend,
    "Image.clip": clip,
    "Image.mask": get_mask,
    "Image.selfMask": self_mask,
    "Image.unmask": unmask,
    "Image.updateMask": update_mask,
    "Image.where": where,
}
