"""The main job on the bundled sample archive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from flows.adapters.local_scenes import build_sample_archive
from flows.candidate import read_candidate
from flows.masking.scoring import TARGETS, MaskScore, score_mask
from flows.published import read_published_mask
from flows.request import IngestRequest
from flows.scene.query import SceneQuery
from flows.settings import read_settings
from flows.wiring import Wiring

ARCHIVE_FOLDER = "sample-archive"
DEMO_INSTANT = datetime(2024, 1, 1, tzinfo=UTC)
"""When the demo says that it ran, so that it writes the same bytes on every machine and every day."""


@dataclass(frozen=True, slots=True)
class SceneScore:
    """How well the published mask of one sample scene meets its known truth."""

    scene_id: str
    tile: str
    score: MaskScore

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, shares rounded to four digits."""
        shares = {name: round(share, 4) for name, share in asdict(self.score).items()}
        return {"id": self.scene_id, **shares, "meets_targets": self.score.meets(TARGETS)}


def build_demo_request(config: Path | None, out: Path | None) -> IngestRequest:
    """The request that ``demo`` is, its archive made where it is missing.

    The archive stands inside a local store, so that the catalog's relative links reach it wherever the
    folder is moved or served from; beside a bucket it stands in ``./sample-archive``.
    """
    settings = read_settings(config, store=str(out) if out else None)
    folder = Wiring(settings).local_folder(ARCHIVE_FOLDER) or ARCHIVE_FOLDER
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
    """The scores of all sample scenes, read back from the published COGs, in order of their ids."""
    wiring = Wiring.of(request)
    settings = wiring.settings
    scores = []
    for item in wiring.source.find_items(SceneQuery()):
        candidate = read_candidate(item, settings.method, settings.mask_parameters)
        scene = candidate.scene
        href = scene.asset_hrefs["truth"]
        truth = wiring.reader.read_band(href, scene.grid, resampling="nearest", item_id=scene.id)
        classes = read_published_mask(wiring.store, candidate.keys)
        score = score_mask(classes, truth.astype(np.uint8), settings.mask_parameters, scene.grid.pixel_size_m)
        scores.append(SceneScore(scene.id, scene.tile, score))
    return sorted(scores, key=lambda score: score.scene_id)
