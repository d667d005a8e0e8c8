"""Masks from Google's Cloud Score+, divided into cloud and shadow.

Cloud Score+ has a single class, "not clear", for clouds and shadows alike. It is split by the rule that
s2cloudless uses to find shadows. A pixel that is not clear is shadow if it is dark (near infrared below the
threshold, not water) and, looking towards the sun, lies behind a 100 m pixel of which at least half is not clear
and not dark, within the shadow distance and to within one such pixel; otherwise it is cloud. The result is
eroded, grown and classified like every mask here, so its buffer has the same meaning. Earth Engine only computes
flags; the rest is done here, whatever ``compute`` says: a neighbourhood costs more there than a byte costs to
transfer.

Cloud Score+ is made from Level-1C. If the surface reflectance of a scene is missing a month after acquisition, as
for many scenes before 2019, the near infrared of Level-1C is used for the split. It does not distinguish water from
shadow; the published item says so (``nir_level``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import COARSE_PIXEL_M, MaskParameters
from pc_cloudmask.masking.clouds_and_shadows import compose_classes, find_shadow_candidates
from pc_cloudmask.masking.earth_engine.graphs import DARK, LACKING_FLAG, NOT_CLEAR, VALID, build_score_flags
from pc_cloudmask.masking.earth_engine.images import ImageFinder
from pc_cloudmask.masking.earth_engine.session import SOFTWARE, PixelDownloader
from pc_cloudmask.masking.earth_engine.windows import CLOUD_SCORE_PLUS, L1C, Bytes, Raster
from pc_cloudmask.masking.methods import DerivedMask, EngineTools, MaskEngine
from pc_cloudmask.scene.image import L1C_LEVEL, EarthEngineImage, Pairing, Waiting
from pc_cloudmask.scene.scene import Scene

#: How late surface reflectance may be before it counts as overdue.
USUAL_LATENESS = timedelta(days=30)


def open_engine(tools: EngineTools) -> MaskEngine:
    """Open the engine, whatever ``compute`` says: Earth Engine only computes flags."""
    begin_mask = partial(download_flags, tools.downloader, tools.read_parameters("cloud-score-plus"))
    return MaskEngine("cloud-score-plus", begin_mask, partial(find_images, tools))


def find_images(tools: EngineTools, scenes: Sequence[Scene]) -> dict[str, Pairing]:
    """Return, by scene id, the Earth Engine image, of Level-1C if that of Level-2A is overdue, or why there is none."""
    session = tools.downloader.session
    pairings = ImageFinder(session, CLOUD_SCORE_PLUS).find_images(scenes)
    waiting = [scene for scene in scenes if isinstance(pairings[scene.id], Waiting)]
    overdue = [scene for scene in waiting if tools.now - scene.datetime > USUAL_LATENESS]
    level1 = ImageFinder(session, CLOUD_SCORE_PLUS, reflectance=L1C).find_images(overdue)
    return pairings | {
        scene_id: replace(pairing, level=L1C_LEVEL)
        for scene_id, pairing in level1.items()
        if isinstance(pairing, EarthEngineImage)
    }


def download_flags(
    downloader: PixelDownloader, parameters: MaskParameters, scene: Scene, ee_image: EarthEngineImage
) -> Callable[[], DerivedMask]:
    """Download the flags of one scene and return what makes its mask from them, see ``MaskEngine``."""
    downloader.session.start()
    image = build_score_flags(ee_image, parameters)
    (flags,) = downloader.read_rasters(scene.id, [Raster("cloud score flags", image, scene.grid)])
    return partial(_classify, flags, scene, ee_image, parameters)


def _classify(
    flags: Bytes, scene: Scene, ee_image: EarthEngineImage, parameters: MaskParameters
) -> DerivedMask:
    """Return the mask from the flags of ``build_score_flags``."""
    not_clear, dark = (flags & NOT_CLEAR) > 0, (flags & DARK) > 0
    factor = round(COARSE_PIXEL_M / scene.grid.pixel_size_m)
    # Dark pixels that are not clear may be shadow, so they cast none.
    casting = _take_majority(not_clear & ~dark, factor)
    reach_px = parameters.shadow_distance_m / COARSE_PIXEL_M
    behind = _grow_by_one(find_shadow_candidates(casting, scene.solar_azimuth_deg, reach_px))
    height, width = flags.shape
    shadow = not_clear & dark & behind.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]
    valid = (flags & VALID) > 0
    classes = compose_classes(not_clear & ~shadow, shadow, valid, parameters, scene.grid.pixel_size_m)
    return DerivedMask(classes, ee_image, SOFTWARE, lacking_px=int(np.count_nonzero(flags == LACKING_FLAG)))


def _take_majority(pixels: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Return, from the upper-left corner, the blocks of ``factor`` x ``factor`` pixels that are at least half set."""
    height, width = pixels.shape
    padded = np.pad(pixels, ((0, -height % factor), (0, -width % factor)))
    rows, cols = padded.shape[0] // factor, padded.shape[1] // factor
    counts: NDArray[np.intp] = np.count_nonzero(padded.reshape(rows, factor, cols, factor), axis=(1, 3))
    return 2 * counts >= factor * factor


def _grow_by_one(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``pixels`` and their eight neighbours.

    Otherwise a shadow's rim that the coarse projection misses would become cloud, and so would its buffer.
    """
    padded = np.pad(pixels, 1)
    tall = padded[:-2] | padded[1:-1] | padded[2:]
    return tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:]
