"""A run that is interrupted begins no further attempt at a scene."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from pc_cloudmask.errors import AssetUnavailable
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.runs.candidate import Candidate, read_candidate
from pc_cloudmask.runs.report import SceneOutcome, SceneState
from pc_cloudmask.runs.runners import ThreadRunner

ITEM = Path(__file__).parents[1] / "data" / "source-item.json"
LONG_S = 60.0


def test_an_interrupted_run_does_not_try_a_scene_again() -> None:
    good = read_candidate(json.loads(ITEM.read_bytes()), {"csmask": MaskParameters()})
    bad = replace(good)
    attempts: list[Candidate] = []
    tried = threading.Event()

    def work(candidate: Candidate) -> SceneOutcome:
        if candidate is good:
            tried.wait(LONG_S)
            return SceneOutcome(candidate.scene.id, SceneState.PUBLISHED)
        attempts.append(candidate)
        tried.set()
        raise AssetUnavailable("no answer")

    outcomes = ThreadRunner(2, retry_delay_s=LONG_S).run_scenes(work, [good, bad])
    assert isinstance(outcomes, Generator)
    assert next(outcomes).state is SceneState.PUBLISHED
    outcomes.close()  # as an exception does that meets the run
    assert len(attempts) == 1
