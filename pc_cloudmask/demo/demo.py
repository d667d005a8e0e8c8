"""The main job on the sample archive, and its score against the known truth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.catalog.search import read_published_mask
from pc_cloudmask.demo.archive import build_sample_archive
from pc_cloudmask.demo.scenes import Truth
from pc_cloudmask.masking.classes import MaskClass, MaskParameters
from pc_cloudmask.runs.candidate import read_candidate
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.settings import read_settings


@dataclass(frozen=True, slots=True)
class MaskScore:
    """Shares between 0 and 1, and counts, of pixels for which the truth is known.

    ``cloud_recall``     share of the true cloud that the mask calls cloud.
    ``cloud_iou``        intersection over union of the mask's cloud and the true cloud grown by the buffer.
    ``shadow_recall``    share of the true shadow, on land and on water, that the mask calls shadow, or calls cloud
                         within the buffer of a true cloud: there, cloud has precedence over shadow.
    ``shadow_iou``       the same as ``cloud_iou`` for its shadow and the true shadow, minus grown cloud.
    ``water_shadow_px``  true shadow on water: the method looks for dark land, so what is found of it is what the
                         buffer of its finds covers.
    ``haze_px``          thin haze that shows the ground, and how much of it the mask calls cloud or shadow.

    The recalls say what a user would miss, the IoUs also what is masked wrongly, including haze. The truth is
    grown by the mask's entire buffer, but not eroded first as the mask is: what the erosion costs counts against
    the mask. A share of nothing is 1.
    """

    cloud_recall: float
    cloud_iou: float
    shadow_recall: float
    shadow_iou: float
    water_shadow_px: int = 0
    water_shadow_found_px: int = 0
    haze_px: int = 0
    haze_found_px: int = 0

    def meets(self, targets: MaskScore) -> bool:
        """Return True if no share is below that of ``targets``."""
        shares = ("cloud_recall", "cloud_iou", "shadow_recall", "shadow_iou")
        return all(getattr(self, share) >= getattr(targets, share) for share in shares)


#: The score that the mask of each sample scene must reach.
TARGETS = MaskScore(cloud_recall=0.99, cloud_iou=0.94, shadow_recall=0.88, shadow_iou=0.70)


def score_mask(
    classes: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    parameters: MaskParameters,
    pixel_size_m: float = 20.0,
) -> MaskScore:
    """Return the score of ``classes``, uint8 (h, w) of ``MaskClass``, against ``truth``, uint8 (h, w) of ``Truth``.

    ``parameters`` are those used to make the mask.

    Raises:
        ValueError: the shapes differ.
    """
    if classes.shape != truth.shape:
        raise ValueError(f"a mask of {classes.shape} pixels has no truth of {truth.shape}")
    known = truth != Truth.NO_DATA
    radius_px = 2 * parameters.buffer_m / pixel_size_m
    true_cloud, water_shadow, haze = truth == Truth.CLOUD, truth == Truth.SHADOW_ON_WATER, truth == Truth.HAZE
    true_shadow = (truth == Truth.SHADOW_ON_LAND) | water_shadow
    grown_cloud = _grow(true_cloud, radius_px) & known
    grown_shadow = _grow(true_shadow, radius_px) & known & ~grown_cloud
    cloud, shadow = (classes == MaskClass.CLOUD) & known, (classes == MaskClass.CLOUD_SHADOW) & known
    shadow_found = shadow | cloud & grown_cloud
    return MaskScore(
        cloud_recall=_share(cloud & true_cloud, true_cloud),
        cloud_iou=_share(cloud & grown_cloud, cloud | grown_cloud),
        shadow_recall=_share(shadow_found & true_shadow, true_shadow),
        shadow_iou=_share(shadow & grown_shadow, shadow | grown_shadow),
        water_shadow_px=_count(water_shadow),
        water_shadow_found_px=_count(shadow_found & water_shadow),
        haze_px=_count(haze),
        haze_found_px=_count((cloud | shadow) & haze),
    )


def _count(pixels: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(pixels))


def _share(part: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    total = _count(of)
    return _count(part) / total if total else 1.0


def _grow(pixels: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    """Dilate by the disk dx² + dy² <= radius², written out, independently of the code that it judges."""
    reach = math.floor(radius_px)
    height, width = pixels.shape
    padded = np.pad(pixels, reach)
    grown = np.zeros_like(pixels)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy <= radius_px * radius_px:
                grown |= padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
    return grown


ARCHIVE_FOLDER = "sample-archive"
#: The time at which the demo claims to run, so that it writes the same bytes on every machine and every day.
DEMO_INSTANT = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SceneScore:
    """How well the published mask of one sample scene matches its known truth."""

    scene_id: str
    tile: str
    score: MaskScore

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, shares rounded to four digits."""
        values = {name: round(value, 4) for name, value in asdict(self.score).items()}
        return {"id": self.scene_id, **values, "meets_targets": self.score.meets(TARGETS)}


def build_demo_request(config: Path | None, out: Path | None) -> IngestRequest:
    """Return the request of ``demo``, after making its archive if it is missing.

    The archive is placed inside a local store, so that the catalog's relative links reach it wherever the folder is
    moved or served from; for a bucket it is in ``./sample-archive``.
    """
    settings = read_settings(config, store=str(out) if out else None)
    folder = RunContext(settings).local_folder(ARCHIVE_FOLDER) or ARCHIVE_FOLDER
    items = build_sample_archive(Path(folder))
    return IngestRequest(
        items=str(items),
        store=settings.store,
        method="s2cloudless",
        compute="local",
        config=config,
        now=DEMO_INSTANT,
    )


def score_demo(request: IngestRequest) -> list[SceneScore]:
    """Return the scores of all sample scenes, read back from the published COGs, in order of their ids."""
    context = RunContext.of(request)
    rungs = context.settings.rungs
    scores = []
    for item in context.source.find_items(SceneQuery()):
        candidate = read_candidate(item, rungs)
        scene = candidate.scene
        href = scene.asset_hrefs["truth"]
        truth = context.reader.read_band(
            href, scene.grid, resampling="nearest", item_id=scene.id, stated=scene.asset_grids["truth"]
        )
        classes = read_published_mask(context.store, candidate.keys)
        score = score_mask(classes, truth.astype(np.uint8), rungs[candidate.method], scene.grid.pixel_size_m)
        scores.append(SceneScore(scene.id, scene.tile, score))
    return sorted(scores, key=lambda score: score.scene_id)
