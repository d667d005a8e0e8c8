"""Operations that look at a pixel's neighbours.

They are computed in the projection that is asked for, on a window grown by their reach, so that a
window of an image equals the same block of the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.doubles.earth_engine.errors import EarthEngineError, NotBuilt
from tests.doubles.earth_engine.grids import Window
from tests.doubles.earth_engine.images import Band, Image, PixelType
from tests.doubles.earth_engine.pyramid import Pixels
from tests.doubles.earth_engine.values import Kernel


def directional_distance(source: Image, angle: float, reach: int, label: str | None) -> Image:
    """``distance`` in pixels to the first pixel that is not zero in a direction; masked where none is.

    ``angle`` is in degrees, counter-clockwise from the direction of growing columns, with rows taken to
    grow downwards. That is counter-clockwise from east on a north-up lattice. On one whose rows grow
    northwards, as the bare CRS string of ``reproject`` gives it, the direction is mirrored. The pixels
    looked at are those nearest to the points at 0, 1, ... ``reach`` pixels' length; masked ones are zero.
    """
    if label is not None:
        raise NotBuilt("labelBand of Image.directionalDistanceTransform")
    if len(source.bands) != 1:
        raise EarthEngineError("The source image must have a single band.")
    (band,) = source.bands
    steps = _steps(math.radians(angle), reach)
    margin = max(max(abs(row), abs(col)) for row, col in steps)

    def compute(window: Window) -> Pixels:
        pixels = band.read(window.expanded(margin))
        hit = pixels.valid & (pixels.values != 0)
        distance = np.full(window.shape, np.inf)
        for length, offset in enumerate(steps):
            found = _shifted(hit, offset, margin, window.shape)
            distance = np.where(found & np.isinf(distance), float(length), distance)
        valid = np.isfinite(distance)
        return Pixels(np.where(valid, distance, 0), valid.astype(np.float32))

    return source.bare([Band("distance", PixelType("float"), band.projection, compute)])


def _steps(angle: float, reach: int) -> list[tuple[int, int]]:
    """Offsets ``(row, col)`` of the pixels on the ray, the pixel itself first."""
    return [
        (_nearest(-length * math.sin(angle)), _nearest(length * math.cos(angle)))
        for length in range(reach + 1)
    ]


def _nearest(offset: float) -> int:
    """The nearest whole number; a half, to within what sines are exact to, away from zero."""
    return int(math.copysign(math.floor(abs(offset) + 0.5 + 1e-9), offset))


def _shifted(
    array: NDArray[Any], offset: tuple[int, int], margin: int, shape: tuple[int, int]
) -> NDArray[Any]:
    """For every pixel of a window, the one at ``offset``; ``array`` is the window grown by ``margin``."""
    row, col = margin + offset[0], margin + offset[1]
    return array[row : row + shape[0], col : col + shape[1]]


@dataclass(frozen=True, slots=True)
class Focal:
    """A morphological filter.

    Masked neighbours do not count, and a masked pixel gets a value from those that are not: it is by
    this that ``focal_mean(...)`` laid under an image fills Landsat 7's gaps, a use found all over. So
    a filter reaches beyond the data's edge, be it that of the swath or that of the tile.
    """

    combine: Callable[..., Any]
    start: float

    def apply(self, image: Image, radius: float, shape: str, units: str, *rest: Any) -> Image:
        """``rest``: the number of iterations, then a kernel in place of radius, shape and units."""
        iterations, kernel = rest
        chosen = kernel or Kernel(shape, radius, units)
        bands = image.bands
        for _ in range(iterations):
            bands = tuple(band.derive(partial(self._filter, band, chosen)) for band in bands)
        return image.bare(bands)

    def _filter(self, band: Band, kernel: Kernel, window: Window) -> Pixels:
        half_widths = kernel.half_widths(window.projection.nominal_scale)
        margin = max(half_widths)
        pixels = band.read(window.expanded(margin))
        inputs = np.where(pixels.valid, pixels.values, self.start)
        values = _reduce_rows(self.combine, inputs, half_widths, window.shape)
        mask = _reduce_rows(np.maximum, pixels.mask, half_widths, window.shape)
        return Pixels(np.where(mask > 0, values, 0), mask)


def _reduce_rows(
    combine: Callable[..., Any], grown: NDArray[Any], half_widths: Mapping[int, int], shape: tuple[int, int]
) -> NDArray[Any]:
    """The kernel's pixels combined; a kernel is a run of pixels in each of its rows, and runs grow."""
    height, width = shape
    margin = max(half_widths)
    run = grown[:, margin : margin + width]
    reduced: NDArray[Any] | None = None
    for half_width in range(max(half_widths.values()) + 1):
        for step in {-half_width, half_width} - {0}:
            run = combine(run, grown[:, margin + step : margin + step + width])
        for row in (row for row, half in half_widths.items() if half == half_width):
            part = run[margin + row : margin + row + height]
            reduced = part if reduced is None else combine(reduced, part)
    assert reduced is not None
    return reduced


FOCAL_MIN = Focal(np.minimum, np.inf)
FOCAL_MAX = Focal(np.maximum, -np.inf)


def _kernel(shape: str) -> Callable[..., Kernel]:
    def build(radius: float, units: str, _normalize: bool, _magnitude: float) -> Kernel:
        return Kernel(shape, radius, units)

    return build


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Image.directionalDistanceTransform": directional_distance,
    **{f"Image.{name}": FOCAL_MIN.apply for name in ("focalMin", "focal_min")},
    **{f"Image.{name}": FOCAL_MAX.apply for name in ("focalMax", "focal_max")},
    **{f"Kernel.{shape}": _kernel(shape) for shape in ("circle", "square", "diamond", "plus")},
}
