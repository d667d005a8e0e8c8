"""What a run may still ask of Earth Engine, what Earth Engine reports as its cost, and how many scenes may begin.

A cost is counted only if the service reported it in the profile of a successful request. What it does not report
(failed attempts, projects without profiles) is in no total, and the report says for how many scenes the cost is
unknown. Billing follows the figures in Google's Cloud Monitoring, by workload tag.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import WATCH_PREFIX
from pc_cloudmask.masking.earth_engine.windows import CostEstimate, estimate_pairing
from pc_cloudmask.masking.methods import METHODS
from pc_cloudmask.runs.candidate import Candidate
from pc_cloudmask.settings import Settings
from pc_cloudmask.storage.store import ObjectStore

if TYPE_CHECKING:
    from pc_cloudmask.masking.earth_engine.session import EarthEngineSession

#: EECU-seconds in an EECU-hour, the unit of quotas.
HOUR_S = 3600.0
logger = logging.getLogger(__name__)


def build_workload_tag(prefix: str, now: datetime) -> str:
    """Return the tag of the run that began at ``now``, as ``ee`` requires it: lower case, up to 63 characters."""
    return f"{prefix}-{now:%Y%m%dt%H%M%Sz}"


class EecuMeter:
    """EECU-seconds of one run's scenes, and of this month's other runs into the same store.

    Each run writes its own object in the store, so that no two write the same one; ``budget_h`` is in EECU-hours a
    month.
    """

    def __init__(
        self, open_store: Callable[[], ObjectStore], tag: str, now: datetime, budget_h: float | None
    ) -> None:
        self._open_store = open_store
        self._prefix = f"{WATCH_PREFIX}eecu/{now:%Y-%m}/"
        self._key = f"{self._prefix}{tag}.json"
        self._budget_h = budget_h
        self._before_s: float | None = None
        self._lock = threading.Lock()
        self.scenes: dict[str, float] = {}
        self.untold: set[str] = set()

    @property
    def has_budget(self) -> bool:
        """True if a month's budget is set."""
        return self._budget_h is not None

    @property
    def is_used_up(self) -> bool:
        """True if this month's reported cost reaches the budget."""
        if self._budget_h is None:
            return False
        with self._lock:
            if self._before_s is None:
                self._before_s = self._read_others()
            return self._before_s + sum(self.scenes.values()) >= self._budget_h * HOUR_S

    def read(self, session: EarthEngineSession, scene_ids: Iterable[str]) -> None:
        """Ask for the cost of completed scenes and store it; it is no error if none is reported."""
        from pc_cloudmask.masking.earth_engine.session import read_scene_eecu  # noqa: PLC0415 - heavy

        told = read_scene_eecu(session, session.take_profiles(scene_ids))
        with self._lock:
            for scene_id, seconds in told.items():
                if seconds is None:
                    self.untold.add(scene_id)
                else:
                    self.scenes[scene_id] = self.scenes.get(scene_id, 0.0) + seconds
            record = {"eecu_seconds": round(sum(self.scenes.values()), 3), "scenes": len(self.scenes)}
        if self.scenes:
            self._open_store().write_object(self._key, json.dumps(record).encode(), JSON_MEDIA_TYPE)
        if self.untold and self.has_budget:
            logger.warning(
                "Earth Engine does not tell what %d scenes cost: CLOUDMASK_EECU_BUDGET does not count them",
                len(self.untold),
            )

    def as_json(self) -> dict[str, Any]:
        """Return the figures for a report; empty if there are none."""
        with self._lock:
            if not (self.scenes or self.untold):
                return {}
            told = {scene_id: round(seconds, 3) for scene_id, seconds in sorted(self.scenes.items())}
            total = round(sum(self.scenes.values()), 3)
            return {"eecu_seconds": total, "eecu_scenes": told, "eecu_untold": len(self.untold)}

    def _read_others(self) -> float:
        """Return the EECU-seconds that this month's other runs recorded; objects of another form are ignored."""
        store, seconds = self._open_store(), 0.0
        for info in store.list_objects(self._prefix):
            stored = None if info.key == self._key else store.read_object(info.key)
            try:
                seconds += float(json.loads(stored.body)["eecu_seconds"]) if stored else 0.0
            except (ValueError, LookupError, TypeError):
                logger.warning("%s is not a note of this program: it is not counted", info.key)
        return seconds


class Budget:
    """Requests to Earth Engine, and scenes, that a run may still begin; None means no limit.

    ``meter`` says whether the month's reported EECU-seconds are used up, checked before scenes are selected. Requests
    are estimated in advance (see ``estimate_scene_cost``), without those that a split or a retry adds. ``deferred``
    counts the scenes that were left to a later run, each once.
    """

    def __init__(
        self, settings: Settings, meter: EecuMeter, requests: int | None = None, scenes: int | None = None
    ) -> None:
        self._settings = settings
        self._requests = inf if requests is None else requests
        self._scenes = inf if scenes is None else scenes
        self._meter = meter
        self._deferred: set[str] = set()

    @property
    def is_limited(self) -> bool:
        """True if the budget is limited in any way."""
        return self._meter.has_budget or min(self._requests, self._scenes) < inf

    @property
    def deferred(self) -> int:
        """Number of scenes that were left to a later run."""
        return len(self._deferred)

    def select_affordable(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the first of ``candidates`` that fit the budget, and deduct them; none once one was deferred."""
        selected: list[Candidate] = []
        asking: list[datetime] = []
        is_used_up = self._meter.is_used_up
        for candidate in [] if self._deferred else candidates:
            cost = self._cost(candidate)
            asking += [candidate.scene.datetime] if cost else []
            needed = cost + estimate_pairing(asking).requests
            if (cost and is_used_up) or self._requests < needed or self._scenes <= 0:
                break
            selected.append(candidate)
            self._requests -= cost
            self._scenes -= 1
        paired = (each.scene.datetime for each in selected if self._cost(each))
        self._requests -= estimate_pairing(paired).requests
        return selected

    def give_back(self, candidate: Candidate) -> None:
        """Return to the budget what was reserved for a scene that must wait, except the cost of pairing it."""
        self._requests += self._cost(candidate)
        self._scenes += 1

    def defer(self, candidates: Sequence[Candidate]) -> None:
        """Leave ``candidates``, and all that this run has yet to find, to a later run."""
        self._deferred.update(candidate.scene.id for candidate in candidates)

    def _cost(self, candidate: Candidate) -> int:
        return estimate_scene_cost(self._settings, candidate).requests


def estimate_scene_cost(settings: Settings, candidate: Candidate) -> CostEstimate:
    """Estimate what the scene needs from Earth Engine and from its own assets with the method being tried."""
    return METHODS[candidate.method].estimate(candidate.scene, settings)
