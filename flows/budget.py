"""What a run may ask of Earth Engine."""

from __future__ import annotations

from collections.abc import Sequence

from flows.adapters.earth_engine.cost import CostEstimate, estimate_cost, estimate_pairing
from flows.adapters.item_inputs import ItemInputs
from flows.candidate import Candidate
from flows.scene.scene import Scene
from flows.settings import Compute, Method, Settings


class Budget:
    """Requests to Earth Engine, and scenes, that a run may still begin; None sets no limit.

    Requests are estimated beforehand, see ``estimate_scene_cost``: what a split or a further attempt adds is
    not counted. ``deferred`` counts the scenes that were left to a later run, each once.
    """

    def __init__(self, settings: Settings, requests: int | None = None, scenes: int | None = None) -> None:
        self._settings = settings
        self._requests = requests
        self._scenes = scenes
        self._deferred: set[str] = set()

    @property
    def deferred(self) -> int:
        return len(self._deferred)

    def select_affordable(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The first of ``candidates`` that fit what is left, which they use up."""
        selected: list[Candidate] = []
        for candidate in candidates:
            cost = estimate_scene_cost(self._settings, candidate.scene).requests
            if self._deferred or not self._has(cost, asking=len(selected) + 1 if cost else 0):
                self._deferred.add(candidate.scene.id)
                continue
            selected.append(candidate)
            self._requests = None if self._requests is None else self._requests - cost
            self._scenes = None if self._scenes is None else self._scenes - 1
        if self._requests is not None:
            asking = sum(1 for each in selected if estimate_scene_cost(self._settings, each.scene).requests)
            self._requests -= estimate_pairing(asking).requests
        return selected

    def _has(self, requests: int, asking: int) -> bool:
        """Whether so many ``requests`` for a scene are left, beside those that pair ``asking`` scenes."""
        enough = self._requests is None or self._requests >= requests + estimate_pairing(asking).requests
        return enough and (self._scenes is None or self._scenes > 0)


def estimate_scene_cost(settings: Settings, scene: Scene) -> CostEstimate:
    """What the scene asks of Earth Engine: nothing where the item carries its own probability."""
    may_use_own = settings.method is Method.S2CLOUDLESS and settings.compute is Compute.LOCAL
    if may_use_own and ItemInputs.has_inputs(scene):
        return CostEstimate()
    return estimate_cost(scene, settings.method, settings.compute)
