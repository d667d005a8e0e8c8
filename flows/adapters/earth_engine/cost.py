"""What deriving a mask asks of Earth Engine, known beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from flows.adapters.earth_engine.windows import plan_windows
from flows.masking.shadow import SHADOW_SCALE_M
from flows.scene.grid import Grid
from flows.scene.scene import Scene

COARSE_PIXEL_M = SHADOW_SCALE_M
PAIRING_CHUNK = 100
"""Scenes that one listing request asks about."""


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Requests and bytes of pixels, uncompressed, if nothing is split or tried again."""

    requests: int = 0
    bytes: int = 0

    def __add__(self, other: CostEstimate) -> CostEstimate:
        return CostEstimate(self.requests + other.requests, self.bytes + other.bytes)


def estimate_cost(scene: Scene, method: str, compute: str) -> CostEstimate:
    """What one scene's pixels cost by ``method`` with ``compute``; a method without Earth Engine, nothing.

    Pairing comes on top: one request for up to ``PAIRING_CHUNK`` scenes, see ``estimate_pairing``.
    """
    if method not in {"s2cloudless", "cloud-score-plus"}:
        return CostEstimate()
    cost = _estimate_raster(scene.grid)
    if method == "s2cloudless" and compute == "local":
        return cost + _estimate_raster(scene.grid.at_pixel_size(COARSE_PIXEL_M))
    return cost


def estimate_pairing(scene_count: int) -> CostEstimate:
    """What finding the images of so many scenes costs, where each has the very image of its item."""
    return CostEstimate(requests=-(-scene_count // PAIRING_CHUNK))


def _estimate_raster(grid: Grid) -> CostEstimate:
    height, width = grid.shape
    return CostEstimate(len(plan_windows(grid)), height * width)
