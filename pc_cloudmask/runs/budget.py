"""What a run may still ask of Earth Engine, and how many scenes it may still begin."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pc_cloudmask.masking.earth_engine.windows import CostEstimate, estimate_pairing
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.runs.candidate import Candidate
from pc_cloudmask.runs.eecu import EecuMeter
from pc_cloudmask.settings import Settings


class Budget:
    """Requests to Earth Engine, and scenes, that a run may still begin; None sets no limit.

    ``meter`` tells whether a month's EECU-seconds are used up: what was told, checked before scenes are selected.
    Requests are estimated beforehand, see ``estimate_scene_cost``: what a split or a further attempt adds is
    not counted. ``deferred`` counts the scenes that were left to a later run, each once.
    """

    def __init__(
        self,
        settings: Settings,
        requests: int | None = None,
        scenes: int | None = None,
        meter: EecuMeter | None = None,
    ) -> None:
        self._settings = settings
        self._requests = requests
        self._scenes = scenes
        self._meter = meter
        self._deferred: set[str] = set()

    @property
    def is_limited(self) -> bool:
        """True if this is a budget that may be used up."""
        has_meter = self._meter is not None and self._meter.has_budget
        return has_meter or not (self._requests is None and self._scenes is None)

    @property
    def deferred(self) -> int:
        """Number of scenes that were left to a later run."""
        return len(self._deferred)

    def select_affordable(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the first of ``candidates`` that fit what is left, and use it up; none once one was deferred."""
        selected: list[Candidate] = []
        asking: list[datetime] = []
        is_used_up = self._meter is not None and self._meter.is_used_up
        for candidate in [] if self._deferred else candidates:
            cost = self._cost(candidate)
            asking += [candidate.scene.datetime] if cost else []
            if (cost and is_used_up) or not self._has(cost + estimate_pairing(asking).requests):
                break
            selected.append(candidate)
            self._spend(cost, scenes=1)
        paired = (each.scene.datetime for each in selected if self._cost(each))
        self._spend(estimate_pairing(paired).requests)
        return selected

    def give_back(self, candidates: Sequence[Candidate]) -> None:
        """Give back what was set aside for ``candidates`` but their pairing, which told that they have to wait."""
        for candidate in candidates:
            self._spend(-self._cost(candidate), scenes=-1)

    def defer(self, candidates: Sequence[Candidate]) -> None:
        """Leave ``candidates``, and all that this run is yet to find, to a later one."""
        self._deferred.update(candidate.scene.id for candidate in candidates)

    def _cost(self, candidate: Candidate) -> int:
        return estimate_scene_cost(self._settings, candidate).requests

    def _has(self, requests: int) -> bool:
        enough = self._requests is None or self._requests >= requests
        return enough and (self._scenes is None or self._scenes > 0)

    def _spend(self, requests: int, scenes: int = 0) -> None:
        if self._requests is not None:
            self._requests -= requests
        if self._scenes is not None:
            self._scenes -= scenes


def estimate_scene_cost(settings: Settings, candidate: Candidate) -> CostEstimate:
    """Estimate what the scene asks of Earth Engine and of its own assets by the method that is tried."""
    return METHODS[candidate.method].estimate(candidate.scene, settings)
