"""The mask core on a full tile at 20 m, compared with scipy's and OpenCV's filters and its memory budget."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.measure import Peer, Row, compare_costs, measure_cpu_ms, measure_peak_mb
from pc_cloudmask.masking.classes import CloudInputs, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_mask, find_shadow_candidates
from tests.masking import reference

SHAPE = (5490, 5490)
SOLAR_AZIMUTH_DEG = 145.0
MEMORY_BUDGET_MB = 60.0
PARAMETERS = MaskParameters()


def measure() -> list[Row]:
    """CPU time against both peers, peak memory against the budget.

    Raises:
        RuntimeError: a peer's mask differs from ours, so that there is nothing to compare.
    """
    inputs = build_inputs(SHAPE)
    cv2.setNumThreads(1)  # two threads only add to the CPU time
    masks = {
        "ours": compose_mask(inputs, SOLAR_AZIMUTH_DEG, PARAMETERS),
        "scipy": compose_with_scipy(inputs),
        "OpenCV": compose_with_opencv(inputs),
    }
    for name, classes in masks.items():
        differing = np.count_nonzero(classes != masks["ours"])
        if differing:
            raise RuntimeError(f"{differing} pixels of {name}'s mask differ from ours")
    del masks

    def run() -> NDArray[np.uint8]:
        return compose_mask(inputs, SOLAR_AZIMUTH_DEG, PARAMETERS)

    ours_ms = measure_cpu_ms(run, repeats=25)
    scipy_ms = measure_cpu_ms(lambda: compose_with_scipy(inputs), repeats=3)
    opencv_ms = measure_cpu_ms(lambda: compose_with_opencv(inputs))
    name = f"mask of {SHAPE[0]} x {SHAPE[1]} px, bit-equal"
    return [
        compare_costs(name, ours_ms, Peer("scipy min/max filters", scipy_ms), "CPU ms", target=60),
        compare_costs(name, ours_ms, Peer("OpenCV, exact disks", opencv_ms), "CPU ms", target=1),
        compare_costs(
            "peak memory over the inputs",
            measure_peak_mb(run),
            Peer("budget", MEMORY_BUDGET_MB),
            "MB",
            target=1,
        ),
    ]


def build_inputs(shape: tuple[int, int]) -> CloudInputs:
    """Draw a scene, half of it cloud, with dark ground, specks and a wedge without data."""
    rng = np.random.default_rng(20181214)
    probability_pct = np.clip(50 + 40 * draw_terrain(rng, shape, 60), 0, 100).astype(np.uint8)
    probability_pct[rng.random(shape) < 0.001] = 90
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    probability_pct[2 * rows + cols < shape[0] // 2] = 255
    dark = draw_terrain(rng, shape, 30) > 0.5
    return CloudInputs(probability_pct, dark, probability_pct[::5, ::5].copy())


def draw_terrain(rng: np.random.Generator, shape: tuple[int, int], feature_px: int) -> NDArray[np.float64]:
    """Smooth noise with features of ``feature_px``."""
    coarse = rng.normal(size=[size // feature_px + 2 for size in shape])
    return np.asarray(ndimage.zoom(coarse, feature_px, order=1)[: shape[0], : shape[1]])


def find_raw(
    inputs: CloudInputs, solar_azimuth_deg: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Cloud, shadow and valid pixels, as both peers begin."""
    valid = inputs.probability_pct != 255
    cloud = (inputs.probability_pct > 50) & valid
    coarse_cloud = (inputs.coarse_probability_pct > 50) & (inputs.coarse_probability_pct != 255)
    candidates = find_shadow_candidates(coarse_cloud, solar_azimuth_deg, 10).view(np.uint8)
    height, width = candidates.shape
    expanded = cv2.resize(candidates, (5 * width, 5 * height), interpolation=cv2.INTER_NEAREST)
    shadow = inputs.dark & expanded[: valid.shape[0], : valid.shape[1]].view(np.bool_)
    return cloud, shadow, valid


def compose_with_scipy(
    inputs: CloudInputs, solar_azimuth_deg: float = SOLAR_AZIMUTH_DEG
) -> NDArray[np.uint8]:
    """Compute the mask by ``scipy.ndimage``'s filters, as one writes it down."""
    cloud, shadow, valid = find_raw(inputs, solar_azimuth_deg)
    small, large = (reference.disk(radius_px) for radius_px in (2, 5))
    raw, data = (np.pad(part.view(np.uint8), 2) for part in ((cloud | shadow) & valid, valid))
    kept = ndimage.minimum_filter(np.where(data, raw, 1), footprint=small, mode="constant", cval=1)
    kept &= ndimage.maximum_filter(data, footprint=small, mode="constant")
    masked = ndimage.maximum_filter(kept, footprint=large, mode="constant")[2:-2, 2:-2] & valid
    near_cloud = ndimage.maximum_filter(cloud.view(np.uint8), footprint=large, mode="constant")
    return _class_pixels(valid, masked, near_cloud)


def compose_with_opencv(inputs: CloudInputs) -> NDArray[np.uint8]:
    """Compute the mask by OpenCV's morphology with Earth Engine's disks (its own ellipse is another shape)."""
    cloud, shadow, valid = find_raw(inputs, SOLAR_AZIMUTH_DEG)
    small, large = (reference.disk(radius_px).astype(np.uint8) for radius_px in (2, 5))
    raw, data = (np.pad(part.view(np.uint8), 2) for part in ((cloud | shadow) & valid, valid))
    kept = np.bitwise_and(cv2.erode(raw | (data ^ 1), small), cv2.dilate(data, small), dtype=np.uint8)
    masked = np.bitwise_and(cv2.dilate(kept, large)[2:-2, 2:-2], valid, dtype=np.uint8)
    near_cloud = np.asarray(cv2.dilate(cloud.view(np.uint8), large), np.uint8)
    return _class_pixels(valid, masked, near_cloud)


def _class_pixels(
    valid: NDArray[np.bool_], masked: NDArray[np.uint8], near_cloud: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """1 clear, 2 masked near a cloud, 3 masked elsewhere."""
    classes: NDArray[np.uint8] = valid.view(np.uint8) + masked
    classes += (masked == 1) & (near_cloud == 0)
    return classes
