"""What is requested from Earth Engine, without using its client: collections, rasters, windows, what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.scene.grid import Grid, Window

if TYPE_CHECKING:
    import ee

#: Surface reflectance without the offset of baselines from 04.00 on.
L2A = "COPERNICUS/S2_SR_HARMONIZED"
#: Reflectance at the top of the atmosphere, also without the offset.
L1C = "COPERNICUS/S2_HARMONIZED"
CLOUD_PROBABILITY = "COPERNICUS/S2_CLOUD_PROBABILITY"
CLOUD_SCORE_PLUS = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"

#: ``computePixels`` answers with at most 48 MB of uncompressed pixels.
REQUEST_LIMIT_BYTES = 50_331_648
#: A byte of data and the byte of mask that Earth Engine counts with it.
BYTES_PER_PIXEL = 2
#: The planned size of a window: three for a tile, so that a scene's requests overlap in time.
WINDOW_BYTES = REQUEST_LIMIT_BYTES // 2
#: Pixels per side that ``computePixels`` allows.
LONGEST_SIDE = 32_768
#: Windows end on multiples of this, the block height of the mask's COG.
ROW_STEP = 512
#: Windows of this side or less are not split further: half of Earth Engine's own 256 pixel tiles.
FLOOR_PIXELS = 128


def plan_windows(grid: Grid, window_bytes: int = WINDOW_BYTES) -> list[Window]:
    """Return windows that cover ``grid`` exactly, each of at most ``window_bytes`` as Earth Engine counts them.

    Full rows where they fit, in multiples of ``ROW_STEP``; narrower blocks on very wide grids.
    """
    width = min(grid.shape[1], LONGEST_SIDE, max(1, window_bytes // (BYTES_PER_PIXEL * ROW_STEP)))
    rows = window_bytes // (BYTES_PER_PIXEL * width)
    return list(grid.blocks(min(LONGEST_SIDE, max(1, rows // ROW_STEP) * ROW_STEP), width))


def split_window(window: Window, floor_pixels: int = FLOOR_PIXELS) -> list[Window]:
    """Return up to four windows that cover ``window``, or an empty list if it must not be made smaller."""
    return [] if max(window.shape) <= floor_pixels else window.split()


#: Scenes that one listing request asks about, and the time within which they were acquired: Earth Engine looks at every
#: image of the world in that time, some ten thousand a day. It includes three passes of a satellite over a tile.
PAIRING_CHUNK, PAIRING_SPAN = 100, timedelta(days=10, hours=12)


def cut_for_pairing(starts: Sequence[datetime]) -> list[slice]:
    """Divide sorted times into runs that one listing request can ask about."""
    cuts = []
    first = 0
    for number, start in enumerate(starts):
        if number - first == PAIRING_CHUNK or start - starts[first] > PAIRING_SPAN:
            cuts.append(slice(first, number))
            first = number
    return [*cuts, slice(first, len(starts))] if starts else []


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Requests and bytes of pixels, uncompressed, if nothing is split or retried.

    ``requests`` and ``bytes`` are Earth Engine's, ``asset_bytes`` those of the item's own assets, read on its grid.
    """

    requests: int = 0
    bytes: int = 0
    asset_bytes: int = 0

    def __add__(self, other: CostEstimate) -> CostEstimate:
        return CostEstimate(
            *(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )


def estimate_raster(grid: Grid) -> CostEstimate:
    """Estimate what one raster on ``grid`` costs, at one byte per pixel, without ``estimate_pairing``."""
    height, width = grid.shape
    return CostEstimate(len(plan_windows(grid)), height * width)


def estimate_assets(grid: Grid, *pixel_bytes: int) -> CostEstimate:
    """Estimate what assets of so many bytes per pixel cost, read on ``grid`` or through overviews as fine as it."""
    height, width = grid.shape
    return CostEstimate(asset_bytes=height * width * sum(pixel_bytes))


def estimate_pairing(taken: Iterable[datetime]) -> CostEstimate:
    """Estimate what finding the images of scenes acquired at these times costs, if each item has its own image."""
    return CostEstimate(requests=len(cut_for_pairing(sorted(taken))))


#: Name of the only band of every image of ours.
BAND = "value"
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Raster:
    """What to download: an image of the one band ``BAND``, one byte per pixel, on ``grid``."""

    name: str
    image: ee.Image
    grid: Grid
