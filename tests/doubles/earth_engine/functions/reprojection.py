"""Projections of single images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.doubles.earth_engine.errors import EarthEngineError
from tests.doubles.earth_engine.geometries import Geometry
from tests.doubles.earth_engine.grids import Projection, Window
from tests.doubles.earth_engine.images import Band, Image, PixelType
from tests.doubles.earth_engine.pyramid import Pixels


def projection(image: Image) -> Projection:
    """The projection that all bands share."""
    if len({band.projection for band in image.bands}) > 1:
        raise EarthEngineError(
            "Image.projection: The bands of the specified image contains different projections. "
            "Use Image.select to select a single band."
        )
    return image.projection


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


def pixel_coordinates(projection: Projection) -> Image:
    """``x`` and ``y``: where a pixel's centre lies in the projection's lattice, in pixels."""

    def coordinate(name: str, axis: int) -> Band:
        def compute(window: Window) -> Pixels:
            positions = window.positions_in(projection)[axis]
            values = np.broadcast_to(positions, window.shape).astype(np.float64)
            return Pixels(values, np.ones(window.shape, np.float32))

        return Band(name, PixelType("double"), projection, compute)

    return Image((coordinate("x", 1), coordinate("y", 0)))


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
    whole. A region in degrees has curved edges in UTM, so that of a large tile takes more than the pixels
    it was made from: as with the real service, ``scale`` and ``region`` alone do not give back its grid.
    """
    base = image.projection if scale is None else image.projection.at_scale(scale)
    region = geometry or image.footprint
    if region is None:
        raise EarthEngineError("Unable to determine the bounds of an unbounded image; specify a region.")
    block = region.block_in(base)
    if width or height or max_dimension:
        x = max(block.shape) / max_dimension if max_dimension else block.width / (width or height or 1)
        y = x if max_dimension else block.height / (height or width or 1)
        block = region.block_in(block.own_projection.scaled(x, y))
    size = (block.width, block.height)
    bands = (Band(band.name, band.pixel_type, block.own_projection, band.read, size) for band in image.bands)
    return Image(tuple(bands), image.properties, region, image.id)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.clipToBoundsAndScale": clip_to_bounds_and_scale,
    "Image.pixelCoordinates": pixel_coordinates,
    "Image.projection": projection,
    "Image.reproject": reproject,
    "Image.setDefaultProjection": set_default_projection,
}
