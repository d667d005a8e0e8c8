"""The thresholds that a mask is made with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MaskParameters:
    """Thresholds; the defaults are those of Earth Engine's s2cloudless tutorial.

    ``cloud_probability_pct``  a pixel is cloud where s2cloudless gives more than this (0..100).
    ``dark_nir_reflectance``   NIR reflectance (0..1) below which land is dark enough for a shadow.
    ``shadow_distance_m``      how far from a cloud its shadow is looked for.
    ``buffer_m``               growth of the mask. The tutorial dilates by twice this (its
                               ``BUFFER * 2 / 20`` pixels of 20 m), and so do we.
    ``clear_score``            Cloud Score+ at or above which a pixel is clear (0..1).
    """

    cloud_probability_pct: float = 50.0
    dark_nir_reflectance: float = 0.15
    shadow_distance_m: float = 1000.0
    buffer_m: float = 50.0
    clear_score: float = 0.60
