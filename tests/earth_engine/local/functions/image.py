"""Bands, masks and projections of single images."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.earth_engine.local.coercion import to_geometry, to_image
from tests.earth_engine.local.errors import EarthEngineError
from tests.earth_engine.local.functions.arithmetic import BINARY, pair_bands
from tests.earth_engine.local.geometries import Geometry
from tests.earth_engine.local.grids import Projection, Window
from tests.earth_engine.local.images import Band, Image, PixelType, constant_image
from tests.earth_engine.local.pyramid import Pixels

EDGE_SLACK_PX = 1e-3
"""How near an edge of a region comes to an edge of a pixel before it is taken for the same."""


def select(image: Image, selectors: list[Any], new_names: list[str] | None) -> Image:
    """The bands that names, patterns or indices pick, in that order."""
    bands = [band for selector in selectors for band in _matching(image, selector)]
    return image.with_bands(bands if new_names is None else _named(bands, new_names))


def _matching(image: Image, selector: Any) -> list[Band]:
    if isinstance(selector, list):
        return [band for part in selector for band in _matching(image, part)]
    if isinstance(selector, int):
        if not -len(image.bands) <= selector < len(image.bands):
            raise EarthEngineError(f"Band index {selector} is out of range [0, {len(image.bands)}).")
        return [image.bands[selector]]
    found = [band for band in image.bands if re.fullmatch(selector, band.name)]
    if not found:
        available = ", ".join(image.band_names)
        raise EarthEngineError(
            f"Image.select: Band pattern '{selector}' did not match any bands. Available bands: [{available}]"
        )
    return found


def _named(bands: list[Band], names: list[str]) -> list[Band]:
    if len(bands) != len(names):
        raise EarthEngineError(f"The number of names ({len(names)}) must match the bands ({len(bands)}).")
    return [band.renamed(name) for band, name in zip(bands, names, strict=True)]


def rename(image: Image, names: list[str]) -> Image:
    return image.with_bands(_named(list(image.bands), names))


def add_bands(image: Image, source: Image, names: list[str] | None, overwrite: bool) -> Image:
    """The source's bands after the image's; a name that is taken replaces, or gets a number."""
    added = source.bands if names is None else select(source, list(names), None).bands
    bands = {band.name: band for band in image.bands}
    for band in added:
        name, number = band.name, 0
        while name in bands and not overwrite:
            number += 1
            name = f"{band.name}_{number}"
        bands[name] = band if name == band.name else band.renamed(name)
    return image.with_bands(bands.values())


def concatenate(images: list[Any]) -> Image:
    first, *rest = (to_image(image) for image in images)
    for image in rest:
        first = add_bands(first, image, None, False)
    return first


def projection(image: Image) -> Projection:
    """The projection that all bands share."""
    if len({band.projection for band in image.bands}) > 1:
        raise EarthEngineError(
            "Image.projection: The bands of the specified image contains different projections. "
            "Use Image.select to select a single band."
        )
    return image.projection


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


def target_projection(
    projection: Projection, transform: list[float] | None, scale: float | None
) -> Projection:
    """The projection that ``crs``, ``crsTransform`` and ``scale`` mean together."""
    if transform is not None:
        if scale is not None:
            raise EarthEngineError("Cannot specify both crsTransform and scale.")
        a, b, c, d, e, f = (float(part) for part in transform)
        return Projection(projection.crs, (a, b, c, d, e, f))
    return projection if scale is None else projection.at_scale(scale)


def reproject(
    image: Image, projection: Projection, transform: list[float] | None, scale: float | None
) -> Image:
    """Pinned: computed in this projection whatever is asked for, then read by nearest neighbour."""
    pinned = target_projection(projection, transform, scale)

    def pin(band: Band) -> Band:
        def compute(window: Window) -> Pixels:
            return _read_nearest(band, pinned, window)

        return Band(band.name, band.pixel_type, pinned, compute)

    return image.with_bands(pin(band) for band in image.bands)


def _read_nearest(band: Band, pinned: Projection, window: Window) -> Pixels:
    """The window's pixels from the band as it is in ``pinned``."""
    rows, cols = window.pixels_of(pinned)
    row, col = int(rows.min()), int(cols.min())
    source = Window(pinned, col, row, int(cols.max()) - col + 1, int(rows.max()) - row + 1)
    pixels = band.read(source)
    index = (rows - row, cols - col)
    return Pixels(pixels.values[index], pixels.mask[index])


def set_default_projection(
    image: Image, projection: Projection, transform: list[float] | None, scale: float | None
) -> Image:
    default = target_projection(projection, transform, scale)
    return image.with_bands(
        Band(band.name, band.pixel_type, default, band.read, band.dimensions) for band in image.bands
    )


def clip_to_bounds_and_scale(
    image: Image,
    geometry: Geometry | None,
    width: int | None,
    height: int | None,
    max_dimension: int | None,
    scale: float | None,
) -> Image:
    """The block of pixels that holds the geometry's bounds, as ``getDownloadURL`` asks for it.

    The lattice is that of the default projection at ``scale``; a region that cuts pixels takes them
    whole. A region in degrees has curved edges in UTM, so it takes more than the pixels it was made
    from: as with the real service, ``scale`` and ``region`` alone do not give back a tile's own grid.
    """
    base = image.projection if scale is None else image.projection.at_scale(scale)
    region = geometry or image.footprint
    if region is None:
        raise EarthEngineError("Unable to determine the bounds of an unbounded image; specify a region.")
    left, top, right, bottom = _pixel_bounds(region, base)
    if width or height or max_dimension:
        across, down = right - left, bottom - top
        factor = max(across, down) / max_dimension if max_dimension else None
        base = base.translated(left, top).scaled(
            factor or across / (width or height or 1), factor or down / (height or width or 1)
        )
        left, top, right, bottom = _pixel_bounds(region, base)
    col, row = math.floor(left + EDGE_SLACK_PX), math.floor(top + EDGE_SLACK_PX)
    size = (math.ceil(right - EDGE_SLACK_PX) - col, math.ceil(bottom - EDGE_SLACK_PX) - row)
    own = base.translated(col, row)
    bands = (Band(band.name, band.pixel_type, own, band.read, size) for band in image.bands)
    return Image(tuple(bands), image.properties, region, image.id)


def _pixel_bounds(region: Geometry, projection: Projection) -> tuple[float, float, float, float]:
    """``(left, top, right, bottom)`` of a region in pixels of a projection."""
    west, south, east, north = region.to_crs(projection.crs).shape.bounds
    xs, ys = np.array([west, west, east, east]), np.array([south, north, south, north])
    cols, rows = projection.to_pixels(xs, ys)
    return float(cols.min()), float(rows.min()), float(cols.max()), float(rows.max())


def normalized_difference(image: Image, names: list[str] | None) -> Image:
    pair = image.bands[:2] if names is None else select(image, list(names), None).bands
    first, second = (image.bare([band]) for band in pair)
    difference = BINARY["subtract"].on_images(first, second)
    result = BINARY["divide"].on_images(difference, BINARY["add"].on_images(first, second))
    return rename(result, ["nd"])


def constant(value: Any) -> Image:
    return to_image(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.addBands": add_bands,
    "Image.bandNames": lambda image: image.band_names,
    "Image.blend": blend,
    "Image.cat": concatenate,
    "Image.clip": clip,
    "Image.clipToBoundsAndScale": clip_to_bounds_and_scale,
    "Image.constant": constant,
    "Image.mask": get_mask,
    "Image.normalizedDifference": normalized_difference,
    "Image.projection": projection,
    "Image.rename": rename,
    "Image.reproject": reproject,
    "Image.select": select,
    "Image.selfMask": self_mask,
    "Image.setDefaultProjection": set_default_projection,
    "Image.unmask": unmask,
    "Image.updateMask": update_mask,
    "Image.where": where,
}
