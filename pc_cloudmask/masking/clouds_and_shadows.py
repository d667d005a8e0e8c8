"""From clouds, dark ground and the sun's azimuth to the classes of a mask.

The azimuth is applied in ``sun_steps``; Earth Engine applies it in ``earth_engine.graphs.build_server_mask``.

Source: Earth Engine community tutorial "Sentinel-2 Cloud Masking with s2cloudless":

- shadow = shadow candidate (at 100 m, nearest pixel) and dark;
- raw mask = cloud or shadow;
- mask = ``focalMin(2).focalMax(50 * 2 / 20)`` of the raw mask at 20 m: anything thinner than a disk of
  2 pixels is removed, the rest grows by a disk of twice the buffer;
- class of a masked pixel (ours, the tutorial's mask is binary): cloud if a cloud of the raw mask is
  within the disk of the dilation, otherwise shadow.

A pixel without data neither erodes its neighbours nor is ever masked. However, ``focalMin`` and ``focalMax``
give it a value if its disk holds a pixel with data (``focal_mean`` uses this to fill gaps). What is eroded
therefore reaches as far beyond the data as the disk of the erosion, and grows back from there. Beyond
the grid's edge there is no data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import COARSE_PIXEL_M, PROBABILITY_NODATA, CloudInputs, MaskParameters
from pc_cloudmask.scene.scene import reflectance_offset_dn

#: Class "water" of Sen2Cor's scene classification (Sentinel-2 Products Specification Document).
SCL_WATER = 6
#: Digital numbers of a reflectance of 1: L2A's ``QUANTIFICATION_VALUE``, the tutorial's ``SR_BAND_SCALE``.
REFLECTANCE_SCALE = 10_000
#: Rows compared at a time, so that no further raster of the scene's size is needed.
_ROWS = 128


def find_cloud(probability_pct: NDArray[np.uint8], threshold_pct: float) -> NDArray[np.bool_]:
    """Find where the probability is strictly above the threshold, and not 255, no data: bool, of the same shape."""
    # For integers p, p > t is p > floor(t): comparing integers needs no float64 copy.
    cloud = probability_pct > math.floor(threshold_pct)
    cloud &= probability_pct != PROBABILITY_NODATA
    return cloud


def find_dark(
    nir_dn: NDArray[np.uint16], scl: NDArray[np.uint8], dark_nir_reflectance: float, offset_dn: int = 0
) -> NDArray[np.bool_]:
    """Find where B8's reflectance is strictly below the threshold, water apart: bool, of the same shape.

    Reflectance is ``(DN + offset_dn) / 10000``; ``offset_dn`` is -1000 from processing baseline 04.00
    on, 0 before it as in Earth Engine's harmonised collection. Water is as dark as a shadow, so SCL 6
    is excluded. A pixel without data (DN 0) is dark: the probability decides where there is data.
    """
    # Integers again; rounding keeps 0.29 * 10000 from being a hair above or below 2900.
    limit_dn = math.ceil(round(dark_nir_reflectance * REFLECTANCE_SCALE - offset_dn, 6))
    dark = nir_dn < limit_dn
    for row in range(0, len(dark), _ROWS):
        dark[row : row + _ROWS] &= scl[row : row + _ROWS] != SCL_WATER
    return dark


#: Nothing on Earth is brighter. Otherwise a saturated pixel, 65535, would be 6.5, and a single one would affect
#: how a network labels its entire tile.
MAX_REFLECTANCE = 2.0


def build_reflectance_table(processing_baseline: str) -> NDArray[np.float32]:
    """Return the reflectance of every digital number, float32 ``(65536,)`` in 0..2: ``table[dn]`` converts pixels.

    0, which means no data in every baseline, gives 0; so does every number that the offset makes negative.
    """
    dn = np.arange(1 << 16, dtype=np.int32) + reflectance_offset_dn(processing_baseline)
    reflectance = dn.astype(np.float32) / np.float32(REFLECTANCE_SCALE)
    return np.clip(reflectance, 0, MAX_REFLECTANCE, out=reflectance)


#: A value that is a half to this many decimals counts as a half: sines and cosines are accurate to about 15.
_TIE_DECIMALS = 9


def find_shadow_candidates(
    coarse_cloud: NDArray[np.bool_], solar_azimuth_deg: float, reach_px: float
) -> NDArray[np.bool_]:
    """Find the pixels that have a cloud between them and the sun: bool, of the same shape.

    A pixel is a candidate if a cloud lies 0, 1, 2 … ``floor(reach_px)`` steps from it towards the
    sun, each step rounded to the nearest pixel. Outside the raster there is no cloud.
    """
    candidates = np.zeros_like(coarse_cloud)
    height, width = coarse_cloud.shape
    for row_step, col_step in sun_steps(solar_azimuth_deg, reach_px):
        to_rows, from_rows = _overlap(row_step, height)
        to_cols, from_cols = _overlap(col_step, width)
        candidates[to_rows, to_cols] |= coarse_cloud[from_rows, from_cols]
    return candidates


def sun_steps(solar_azimuth_deg: float, reach_px: float) -> list[tuple[int, int]]:
    """Return the steps (rows, columns) from a pixel of a north-up grid towards the sun, distance 0 first.

    ``solar_azimuth_deg`` is clockwise from north, any real number. Rows count southwards, so the step of length
    ``k`` is ``(-k sin a, k cos a)`` with ``a = 90 - azimuth``: the tutorial's angle, counter-clockwise from east.

    Raises:
        ValueError: the azimuth is not finite.
    """
    if not math.isfinite(solar_azimuth_deg):
        raise ValueError(f"a solar azimuth of {solar_azimuth_deg} degrees is no direction")
    angle = math.radians(90.0 - solar_azimuth_deg % 360.0)
    return [
        (_round_half_away(-k * math.sin(angle)), _round_half_away(k * math.cos(angle)))
        for k in range(math.floor(reach_px) + 1)
    ]


def _round_half_away(value: float) -> int:
    """Return the nearest integer, rounding halves away from zero: the same in all four quadrants."""
    return int(math.copysign(math.floor(round(abs(value), _TIE_DECIMALS) + 0.5), value))


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Return, along an axis of ``size``, the pixels ``i`` with ``i + step`` inside, and the pixels ``i + step``."""
    inside = max(size - abs(step), 0)
    start = min(max(-step, 0), size)
    return slice(start, start + inside), slice(start + step, start + step + inside)


# How it is computed. Every step is a logical operation on binary rasters, so eight pixels are processed at a time,
# one in each bit of a byte:
#
# - The scene is cut into strips, each strip into eight segments of as many rows, and pixel (row, col) of segment
#   ``s`` is bit ``s`` of byte (row, col) of the packed strip. The eight pixels of a byte lie a segment's height
#   apart, so their neighbours lie in the neighbouring bytes, at the same bit: to shift a raster is to shift its
#   bytes, and no bit ever crosses into another.
# - What a pixel becomes depends on the rows around it, up to the combined reach of the disks of erosion and dilation,
#   the *halo*. Each segment is therefore packed with its halo above and below, even where those rows belong to the
#   next segment, and each disk removes its own reach again: after both, the segments have their original height
#   and lie edge to edge. Rows beyond the raster are zero in every packed array: neither cloud nor shadow nor valid.
# - Columns beyond the raster's edge are zero too. Only the erosion may give a value there, so what it returns has
#   its reach as a margin left and right, which the dilation uses up.
# - A disk is the union of its rows, and each row of a disk is a horizontal run of pixels. ``dilate`` goes from the
#   outermost row to the middle one. Runs grow longer in this direction, so each is made from the previous one by an OR
#   with a shifted copy, and OR-ed into the result above and below the centre.
# - An erosion is the dilation of the complement.
#
# A strip's packed arrays fit the processor's cache. The result equals filters with Earth Engine's kernels bit for
# bit; ``benchmarks/mask_core.py`` compares its speed with scipy's and OpenCV's.

#: A binary raster of eight segments, one bit each: ``(rows of one segment, width)``.
Packed = NDArray[np.uint8]
#: Cloud, shadow and valid pixels of a strip with its halos; the last is one pixel wide if all pixels are valid.
PackedInputs = tuple[Packed, Packed, Packed]
#: Bits of a byte.
SEGMENTS = 8
#: Radius of the erosion: the tutorial's ``focalMin(2)`` at 20 m.
EROSION_M = 40.0
#: Radius of the dilation in buffers: the tutorial's ``focalMax(BUFFER * 2 / 20)`` at 20 m.
DILATION_BUFFERS = 2
#: Rows of a segment: a strip's arrays stay in the processor's cache, and halos are a small part of them.
_SEGMENT_HEIGHT = 120


@dataclass(frozen=True, slots=True)
class Strip:
    """Eight segments of ``segment_height`` rows, each with ``halo`` rows more above and below.

    The segments follow each other from ``first_row`` of a raster with ``raster_height`` rows. They may
    extend beyond the raster, where all bits are zero.
    """

    raster_height: int
    first_row: int
    segment_height: int
    halo: int = 0

    @property
    def rows(self) -> slice:
        """Return the slice of the raster's rows that the strip holds, including halos."""
        stop = self.first_row + SEGMENTS * self.segment_height + self.halo
        return slice(max(self.first_row - self.halo, 0), min(stop, self.raster_height))

    def pack(self, read_rows: Callable[[slice], NDArray[np.bool_]], width: int) -> Packed:
        """Pack pixels: uint8 ``(segment_height + 2 * halo, width)``.

        ``read_rows`` returns a slice of the raster's rows as bool ``(rows, width)``. It is called segment by
        segment, so it can apply a threshold without a raster of its own.
        """
        packed = np.zeros((self.segment_height + 2 * self.halo, width), np.uint8)
        for _, rows, segment_rows in reversed(list(self._segments())):
            packed += packed  # one bit up: doubling is faster than a shift
            packed[segment_rows] |= read_rows(rows).view(np.uint8)
        return packed

    def unpack_pairs(self, low: Packed, high: Packed, out: NDArray[np.uint8]) -> None:
        """Write ``low + 2 * high`` of each pixel to ``out``, uint8 ``(raster_height, width)``.

        ``low`` and ``high`` are packed without a halo, and this strip must have none.
        """
        # Both bits of a pixel side by side: one shift and one mask give its value.
        even = low & 0x55 | (high & 0x55) << 1
        odd = low >> 1 & 0x55 | high & 0xAA
        for segment, rows, segment_rows in self._segments():
            pairs = (odd if segment % 2 else even)[segment_rows]
            np.bitwise_and(pairs >> segment // 2 * 2, 3, out=out[rows])

    def _segments(self) -> Iterator[tuple[int, slice, slice]]:
        """Yield each segment, the raster's rows that it holds (possibly none), and where in the segment they are."""
        for segment in range(SEGMENTS):
            top = self.first_row + segment * self.segment_height - self.halo
            start = max(top, 0)
            stop = max(min(top + self.segment_height + 2 * self.halo, self.raster_height), start)
            yield segment, slice(start, stop), slice(start - top, stop - top)


def disk_reach(radius_px: float) -> int:
    """Return the number of rows by which the disk reaches beyond its centre."""
    return math.isqrt(math.floor(radius_px * radius_px))


def disk_half_widths(radius_px: float) -> list[int]:
    """Return the half width of the disk's row at a distance of 0, 1, 2 … rows from its centre.

    The disk is Earth Engine's circle kernel, the pixels with ``dx**2 + dy**2 <= radius**2``: 13 pixels
    at radius 2, 81 at radius 5, the centre alone below 1.
    """
    limit = math.floor(radius_px * radius_px)
    return [math.isqrt(limit - dy * dy) for dy in range(disk_reach(radius_px) + 1)]


def dilate(packed: Packed, radius_px: float, margin: int = 0) -> Packed:
    """Return where the disk around a pixel holds a set one: packed, ``disk_reach`` rows fewer at top and bottom.

    Pixels left and right of the raster are not set; the result has ``margin`` columns more on either side.
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


def compose_mask(
    inputs: CloudInputs, solar_azimuth_deg: float, parameters: MaskParameters, pixel_size_m: float = 20.0
) -> NDArray[np.uint8]:
    """Return classes of ``MaskClass`` on the grid of ``inputs.probability_pct``: uint8 of the same shape.

    ``solar_azimuth_deg`` is clockwise from north. ValueError: it is not finite, or the inputs' shapes do not match.
    """
    factor = _coarse_factor(inputs, pixel_size_m)
    threshold_pct = parameters.cloud_probability_pct
    candidates = find_shadow_candidates(
        find_cloud(inputs.coarse_probability_pct, threshold_pct),
        solar_azimuth_deg,
        parameters.shadow_distance_m / COARSE_PIXEL_M,
    )
    probability_pct, dark = inputs.probability_pct, inputs.dark
    width = probability_pct.shape[1]

    def pack(strip: Strip) -> PackedInputs:
        cloud = strip.pack(lambda rows: find_cloud(probability_pct[rows], threshold_pct), width)
        shadow = _pack_expanded(candidates, factor, strip)[:, :width]
        if shadow.any():
            shadow &= strip.pack(lambda rows: dark[rows], width)
        if probability_pct[strip.rows].max(initial=0) < PROBABILITY_NODATA:
            valid = strip.pack(lambda rows: np.ones((rows.stop - rows.start, 1), np.bool_), 1)
        else:
            valid = strip.pack(lambda rows: probability_pct[rows] != PROBABILITY_NODATA, width)
        return cloud, shadow, valid

    buffer_px, erosion_px = parameters.buffer_m / pixel_size_m, EROSION_M / pixel_size_m
    return _compose(probability_pct.shape, pack, buffer_px, erosion_px, factor)


def compose_classes(
    cloud: NDArray[np.bool_],
    shadow: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    parameters: MaskParameters,
    pixel_size_m: float = 20.0,
    erosion_m: float = EROSION_M,
) -> NDArray[np.uint8]:
    """Return classes of ``MaskClass`` for clouds and shadows that are already separate: uint8 of the same shape.

    Erosion, dilation and classes are those of ``compose_mask``; if ``erosion_m`` is 0 nothing is eroded. All
    three are bool ``(height, width)``; ValueError if their shapes differ. Where ``valid`` is false there is no data.
    """
    if not cloud.shape == shadow.shape == valid.shape:
        raise ValueError(
            f"cloud {cloud.shape}, shadow {shadow.shape} and valid {valid.shape} differ in shape"
        )

    def pack(strip: Strip) -> PackedInputs:
        def pack_one(raster: NDArray[np.bool_]) -> Packed:
            return strip.pack(raster.__getitem__, raster.shape[1])

        return pack_one(cloud), pack_one(shadow), pack_one(valid)

    return _compose(valid.shape, pack, parameters.buffer_m / pixel_size_m, erosion_m / pixel_size_m)


def _classify(
    cloud: Packed, shadow: Packed, valid: Packed, erosion_px: float, dilation_px: float
) -> tuple[Packed, Packed]:
    """Return the low and the high bit of a strip's classes, without the halos that its inputs have."""
    raw = (cloud | shadow) & valid
    width, erosion = raw.shape[1], disk_reach(erosion_px)
    inside = _crop(valid, erosion + disk_reach(dilation_px))
    if not raw.any():
        clear = np.broadcast_to(inside, (len(inside), width))
        return clear, np.zeros_like(clear)
    kept = _erode(raw, valid, erosion_px)
    masked = dilate(kept, dilation_px)[:, erosion : erosion + width] & inside
    near_cloud = dilate(_crop(cloud & valid, erosion), dilation_px)
    # NO_DATA 00, CLEAR 01, CLOUD 10, CLOUD_SHADOW 11.
    return inside & ~(masked & near_cloud), masked


def _erode(raw: Packed, valid: Packed, radius_px: float) -> Packed:
    """Return where the disk contains pixels with data and all of them are in ``raw``.

    The result has ``disk_reach`` columns more on either side of the grid; above and below, the halos have the rows.
    """
    margin = disk_reach(radius_px)
    reached = dilate(valid, radius_px, margin)
    if valid.shape[1] < raw.shape[1]:
        # All are valid, so every column except those of the margins is like this one.
        reached = reached.repeat([1] * margin + [raw.shape[1]] + [1] * margin, axis=1)
    return reached & ~dilate(valid & ~raw, radius_px, margin)


def _compose(
    shape: tuple[int, ...],
    pack: Callable[[Strip], PackedInputs],
    buffer_px: float,
    erosion_px: float,
    factor: int = 1,
) -> NDArray[np.uint8]:
    """Return the classes, made strip by strip; a segment's height is a multiple of ``factor``."""
    classes = np.empty(shape, np.uint8)
    dilation_px = DILATION_BUFFERS * buffer_px
    halo = disk_reach(erosion_px) + disk_reach(dilation_px)
    segment_height = math.ceil(max(_SEGMENT_HEIGHT, halo) / factor) * factor
    for first_row in range(0, shape[0], SEGMENTS * segment_height):
        strip = Strip(shape[0], first_row, segment_height, halo)
        low, high = _classify(*pack(strip), erosion_px, dilation_px)
        replace(strip, halo=0).unpack_pairs(low, high, classes)
    return classes


def _pack_expanded(coarse: NDArray[np.bool_], factor: int, strip: Strip) -> Packed:
    """Pack ``coarse`` on the grid of ``strip``, where each of its pixels is ``factor`` x ``factor`` pixels.

    It is packed before it grows: every segment begins on the edge of a coarse pixel, so all of them grow alike.
    """
    halo = math.ceil(strip.halo / factor)
    coarse_strip = Strip(len(coarse), strip.first_row // factor, strip.segment_height // factor, halo)
    packed = coarse_strip.pack(coarse.__getitem__, coarse.shape[1])
    return _crop(packed.repeat(factor, axis=1).repeat(factor, axis=0), halo * factor - strip.halo)


def _crop(packed: Packed, rows: int) -> Packed:
    """Return ``packed`` without ``rows`` rows at top and bottom."""
    return packed[rows : len(packed) - rows]


def _coarse_factor(inputs: CloudInputs, pixel_size_m: float) -> int:
    """Return the edge length of a coarse pixel in pixels; raise ValueError unless the inputs' shapes match it."""
    factor = round(COARSE_PIXEL_M / pixel_size_m)
    if factor < 1 or factor * pixel_size_m != COARSE_PIXEL_M:
        raise ValueError(f"{COARSE_PIXEL_M:g} m is no whole number of pixels of {pixel_size_m:g} m")
    shape = inputs.probability_pct.shape
    if inputs.dark.shape != shape:
        raise ValueError(f"dark is {inputs.dark.shape}, the probability {shape}")
    coarse_shape = tuple(math.ceil(size / factor) for size in shape)
    if inputs.coarse_probability_pct.shape != coarse_shape:
        raise ValueError(
            f"the coarse probability is {inputs.coarse_probability_pct.shape}, not {coarse_shape} for {shape}"
        )
    return factor
