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
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flows.masking.cloud import find_cloud
from flows.masking.disk import dilate, disk_reach
from flows.masking.inputs import PROBABILITY_NODATA, CloudInputs
from flows.masking.packed import BANDS, BandStack, Packed
from flows.masking.parameters import MaskParameters
from flows.masking.shadow import SHADOW_SCALE_M, find_shadow_candidates

EROSION_M = 40.0
"""Radius of the erosion: the tutorial's ``focalMin(2)`` at 20 m."""

DILATION_BUFFERS = 2
"""Radius of the dilation in buffers: the tutorial's ``focalMax(BUFFER * 2 / 20)`` at 20 m."""

_BAND_HEIGHT = 120
"""Rows of a band: a strip's arrays stay in the processor's cache, and halos are a small part of them."""


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
