"""From clouds, dark ground and the sun's azimuth to the classes of a mask.

Source: Earth Engine community tutorial "Sentinel-2 Cloud Masking with s2cloudless":

- shadow = shadow candidate (at 100 m, nearest pixel) and dark;
- raw mask = cloud or shadow;
- mask = ``focalMin(2).focalMax(50 * 2 / 20)`` of the raw mask at 20 m: what is thinner than a disk of
  2 pixels goes, the rest grows by a disk of twice the buffer;
- class of a masked pixel (ours, the tutorial's mask is binary): cloud where a cloud of the raw mask is
  within the disk of the dilation, else shadow.

A pixel without data neither erodes its neighbours nor is ever masked. But ``focalMin`` and ``focalMax``
give it a value where its disk holds a pixel with data (``focal_mean`` fills gaps by this), so what is
eroded reaches as far beyond the data as the disk of the erosion does, and grows back from there. Beyond
the grid's edge there is no data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import PROBABILITY_NODATA, CloudInputs, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import SHADOW_SCALE_M, find_cloud, find_shadow_candidates

#: Eight bands of a binary raster, ``(rows of one band, width)``.
Packed = NDArray[np.uint8]
#: Bits of a byte.
BANDS = 8


@dataclass(frozen=True, slots=True)
class BandStack:
    """Eight bands of ``band_height`` rows, each with ``halo`` rows more above and below.

    The bands follow each other from ``first_row`` of a raster of ``raster_height`` rows. They may
    reach beyond the raster, where all bits are zero.
    """

    raster_height: int
    first_row: int
    band_height: int
    halo: int = 0

    @property
    def rows(self) -> slice:
        """The raster's rows that the stack holds, halos included."""
        stop = self.first_row + BANDS * self.band_height + self.halo
        return slice(max(self.first_row - self.halo, 0), min(stop, self.raster_height))

    def pack(self, read_rows: Callable[[slice], NDArray[np.bool_]], width: int) -> Packed:
        """Packed pixels, uint8 ``(band_height + 2 * halo, width)``.

        ``read_rows`` gives a slice of the raster's rows as bool ``(rows, width)``. It is asked band by
        band, so a threshold may be applied there without a raster of its own.
        """
        packed = np.zeros((self.band_height + 2 * self.halo, width), np.uint8)
        for _, rows, band_rows in reversed(list(self._bands())):
            packed += packed  # one bit up: a doubling is quicker than a shift
            packed[band_rows] |= read_rows(rows).view(np.uint8)
        return packed

    def unpack_pairs(self, low: Packed, high: Packed, out: NDArray[np.uint8]) -> None:
        """Write ``low + 2 * high`` of each pixel to ``out``, uint8 ``(raster_height, width)``.

        ``low`` and ``high`` are packed without a halo, as this stack must be.
        """
        # Both bits of a pixel side by side: one shift and one mask give its value.
        even = low & 0x55 | (high & 0x55) << 1
        odd = low >> 1 & 0x55 | high & 0xAA
        for band, rows, band_rows in self._bands():
            pairs = (odd if band % 2 else even)[band_rows]
            np.bitwise_and(pairs >> band // 2 * 2, 3, out=out[rows])

    def _bands(self) -> Iterator[tuple[int, slice, slice]]:
        """Each band, the raster's rows that it holds (maybe none), and where in the band they are."""
        for band in range(BANDS):
            top = self.first_row + band * self.band_height - self.halo
            start = max(top, 0)
            stop = max(min(top + self.band_height + 2 * self.halo, self.raster_height), start)
            yield band, slice(start, stop), slice(start - top, stop - top)


def disk_reach(radius_px: float) -> int:
    """Rows by which the disk reaches beyond its centre."""
    return math.isqrt(math.floor(radius_px * radius_px))


def disk_half_widths(radius_px: float) -> list[int]:
    """Half width of the disk's row at a distance of 0, 1, 2 … rows from its centre.

    The disk is Earth Engine's circle kernel, the pixels with ``dx**2 + dy**2 <= radius**2``: 13 pixels
    at radius 2, 81 at radius 5, the centre alone below 1.
    """
    limit = math.floor(radius_px * radius_px)
    return [math.isqrt(limit - dy * dy) for dy in range(disk_reach(radius_px) + 1)]


def dilate(packed: Packed, radius_px: float, margin: int = 0) -> Packed:
    """Where the disk around a pixel holds a set one: packed, ``disk_reach`` rows less at top and bottom.

    What lies left and right of the raster is not set; the result has ``margin`` columns more on either
    side. The disk is the union of its rows, and a horizontal run of pixels grows from row to row by an
    OR with a shifted copy of itself.
    """
    half_widths = disk_half_widths(radius_px)
    reach = len(half_widths) - 1
    height, width = packed.shape[0] - 2 * reach, packed.shape[1] + 2 * margin
    dilated = np.zeros((height, width), np.uint8)
    # run[:, j] is the OR of `length` pixels from j on.
    run, length = np.pad(packed, ((0, 0), (reach + margin, reach + margin))), 1
    for dy in range(reach, -1, -1):
        half_width = half_widths[dy]
        while length < 2 * half_width + 1:
            step = min(length, 2 * half_width + 1 - length)
            run = run[:, :-step] | run[:, step:]
            length += step
        left = reach - half_width
        for top in {reach - dy, reach + dy}:
            dilated |= run[top : top + height, left : left + width]
    return dilated


#: Radius of the erosion: the tutorial's ``focalMin(2)`` at 20 m.
EROSION_M = 40.0
#: Radius of the dilation in buffers: the tutorial's ``focalMax(BUFFER * 2 / 20)`` at 20 m.
DILATION_BUFFERS = 2
#: Rows of a band: a strip's arrays stay in the processor's cache, and halos are a small part of them.
_BAND_HEIGHT = 120


def compose_mask(
    inputs: CloudInputs, solar_azimuth_deg: float, parameters: MaskParameters, pixel_size_m: float = 20.0
) -> NDArray[np.uint8]:
    """Classes of ``MaskClass`` on the grid of ``inputs.probability_pct``: uint8 of the same shape.

    ``solar_azimuth_deg`` is clockwise from north, any real number.

    Raises:
        ValueError: inputs whose shapes do not belong together, or an azimuth that is not finite.
    """
    factor = _coarse_factor(inputs, pixel_size_m)
    threshold_pct = parameters.cloud_probability_pct
    candidates = find_shadow_candidates(
        find_cloud(inputs.coarse_probability_pct, threshold_pct),
        solar_azimuth_deg,
        parameters.shadow_distance_m / SHADOW_SCALE_M,
    )
    probability_pct, dark = inputs.probability_pct, inputs.dark
    width = probability_pct.shape[1]

    def read_strip(stack: BandStack) -> _Strip:
        cloud = stack.pack(lambda rows: find_cloud(probability_pct[rows], threshold_pct), width)
        shadow = _pack_expanded(candidates, factor, stack)[:, :width]
        if shadow.any():
            shadow &= stack.pack(lambda rows: dark[rows], width)
        if probability_pct[stack.rows].max(initial=0) < PROBABILITY_NODATA:
            return _Strip(cloud, shadow, stack.pack(_all_set, 1))
        return _Strip(
            cloud, shadow, stack.pack(lambda rows: probability_pct[rows] != PROBABILITY_NODATA, width)
        )

    return _compose(probability_pct.shape, read_strip, _Radii.of(parameters, pixel_size_m), factor)


def compose_classes(
    cloud: NDArray[np.bool_],
    shadow: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    parameters: MaskParameters,
    pixel_size_m: float = 20.0,
) -> NDArray[np.uint8]:
    """Classes of ``MaskClass`` for clouds and shadows that are already told apart: uint8 of the same shape.

    Erosion, dilation and classes are those of ``compose_mask``. All three are bool ``(height, width)``;
    where ``valid`` is false there is no data.

    Raises:
        ValueError: arrays of different shapes.
    """
    if not cloud.shape == shadow.shape == valid.shape:
        raise ValueError(
            f"cloud {cloud.shape}, shadow {shadow.shape} and valid {valid.shape} differ in shape"
        )
    width = valid.shape[1]

    def read_strip(stack: BandStack) -> _Strip:
        return _Strip(
            stack.pack(lambda rows: cloud[rows], width),
            stack.pack(lambda rows: shadow[rows], width),
            stack.pack(lambda rows: valid[rows], width),
        )

    return _compose(valid.shape, read_strip, _Radii.of(parameters, pixel_size_m))


@dataclass(frozen=True, slots=True)
class _Radii:
    """Radii of the morphology in pixels."""

    erosion_px: float
    dilation_px: float

    @classmethod
    def of(cls, parameters: MaskParameters, pixel_size_m: float) -> _Radii:
        return cls(EROSION_M / pixel_size_m, DILATION_BUFFERS * parameters.buffer_m / pixel_size_m)

    @property
    def halo(self) -> int:
        """Rows around a strip that its mask depends on."""
        return disk_reach(self.erosion_px) + disk_reach(self.dilation_px)


@dataclass(frozen=True, slots=True)
class _Strip:
    """Eight bands of a scene with their halos; ``valid`` is one pixel wide where all are valid."""

    cloud: Packed
    shadow: Packed
    valid: Packed

    def classify(self, radii: _Radii) -> tuple[Packed, Packed]:
        """The low and the high bit of the classes, without the halos."""
        raw = (self.cloud | self.shadow) & self.valid
        width = raw.shape[1]
        valid = _crop(self.valid, radii.halo)
        if not raw.any():
            clear = np.broadcast_to(valid, (len(valid), width))
            return clear, np.zeros_like(clear)
        erosion = disk_reach(radii.erosion_px)
        kept = self._erode(raw, radii.erosion_px)
        masked = dilate(kept, radii.dilation_px)[:, erosion : erosion + width] & valid
        near_cloud = dilate(_crop(self.cloud & self.valid, erosion), radii.dilation_px)
        # NO_DATA 00, CLEAR 01, CLOUD 10, CLOUD_SHADOW 11.
        return valid & ~(masked & near_cloud), masked

    def _erode(self, raw: Packed, radius_px: float) -> Packed:
        """Where the disk holds pixels with data and all of them are in ``raw``.

        The result has ``disk_reach`` columns more on either side of the grid; above and below it the
        halos have the rows.
        """
        margin = disk_reach(radius_px)
        reached = dilate(self.valid, radius_px, margin)
        if self.valid.shape[1] < raw.shape[1]:
            # All are valid, so every column but those of the margins is as this one.
            reached = reached.repeat([1] * margin + [raw.shape[1]] + [1] * margin, axis=1)
        return reached & ~dilate(self.valid & ~raw, radius_px, margin)


def _compose(
    shape: tuple[int, ...], read_strip: Callable[[BandStack], _Strip], radii: _Radii, factor: int = 1
) -> NDArray[np.uint8]:
    """The classes, strip by strip; a band's height is a multiple of ``factor``."""
    classes = np.empty(shape, np.uint8)
    band_height = math.ceil(max(_BAND_HEIGHT, radii.halo) / factor) * factor
    for first_row in range(0, shape[0], BANDS * band_height):
        stack = BandStack(shape[0], first_row, band_height, radii.halo)
        low, high = read_strip(stack).classify(radii)
        replace(stack, halo=0).unpack_pairs(low, high, classes)
    return classes


def _pack_expanded(coarse: NDArray[np.bool_], factor: int, stack: BandStack) -> Packed:
    """``coarse`` on the grid of ``stack``, each of its pixels ``factor`` x ``factor`` pixels there.

    It is packed before it grows: the bands begin on whole coarse pixels, so they all grow alike.
    """
    halo = math.ceil(stack.halo / factor)
    coarse_stack = BandStack(len(coarse), stack.first_row // factor, stack.band_height // factor, halo)
    packed = coarse_stack.pack(lambda rows: coarse[rows], coarse.shape[1])
    return _crop(packed.repeat(factor, axis=1).repeat(factor, axis=0), halo * factor - stack.halo)


def _crop(packed: Packed, rows: int) -> Packed:
    """``packed`` without ``rows`` rows at top and bottom."""
    return packed[rows : len(packed) - rows]


def _all_set(rows: slice) -> NDArray[np.bool_]:
    """A column of set pixels."""
    return np.ones((rows.stop - rows.start, 1), np.bool_)


def _coarse_factor(inputs: CloudInputs, pixel_size_m: float) -> int:
    """Pixels along the edge of a coarse pixel.

    Raises:
        ValueError: shapes that do not belong together, or a coarse pixel that is no whole number of pixels.
    """
    factor = round(SHADOW_SCALE_M / pixel_size_m)
    if factor < 1 or factor * pixel_size_m != SHADOW_SCALE_M:
        raise ValueError(f"{SHADOW_SCALE_M:g} m is no whole number of pixels of {pixel_size_m:g} m")
    shape = inputs.probability_pct.shape
    if inputs.dark.shape != shape:
        raise ValueError(f"dark is {inputs.dark.shape}, the probability {shape}")
    coarse_shape = tuple(math.ceil(size / factor) for size in shape)
    if inputs.coarse_probability_pct.shape != coarse_shape:
        raise ValueError(
            f"the coarse probability is {inputs.coarse_probability_pct.shape}, not {coarse_shape} for {shape}"
        )
    return factor
