"""What a run would do, found out without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from pc_cloudmask.catalog.publisher import find_published
from pc_cloudmask.catalog.search import Census, read_census
from pc_cloudmask.catalog.states import NotedState, list_states
from pc_cloudmask.masking.earth_engine.windows import estimate_pairing
from pc_cloudmask.runs.candidate import Candidate, estimate_scene_cost, read_candidates, select_unpublished
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.report import SceneOutcome
from pc_cloudmask.runs.request import IngestRequest


@dataclass(frozen=True, slots=True)
class PlannedScene:
    """A scene that would be published, the keys it would get, and what its inputs cost.

    An asset's key carries the hash of its content, which is not known yet: it ends in ``-*``.
    """

    id: str
    item_key: str
    asset_keys: tuple[str, ...]
    requests: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "id": self.id,
            "item": self.item_key,
            "assets": list(self.asset_keys),
            "requests": self.requests,
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The scenes of a dry run."""

    would_publish: tuple[PlannedScene, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[SceneOutcome, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """Of every scene that was found."""
        planned = (scene.id for scene in self.would_publish)
        return frozenset((*self.skipped, *planned, *(outcome.id for outcome in self.failed)))

    @property
    def requests(self) -> int:
        """Requests to Earth Engine in all, those that pair scenes with their images among them."""
        asking = [scene for scene in self.would_publish if scene.requests]
        return sum(scene.requests for scene in asking) + estimate_pairing(len(asking)).requests

    @property
    def bytes(self) -> int:
        """Bytes of pixels from Earth Engine in all."""
        return sum(scene.bytes for scene in self.would_publish)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; ``failed`` as in a report."""
        return {
            "dry_run": True,
            "would_publish": [scene.as_json() for scene in self.would_publish],
            "skipped": list(self.skipped),
            "failed": [scene.as_failure() for scene in self.failed],
            "requests": self.requests,
            "bytes": self.bytes,
        }


def plan_ingest(request: IngestRequest) -> Plan:
    """What ``ingest`` would do for ``request``."""
    context = RunContext.of(request, read_only=True)
    settings = context.settings
    items = context.source.find_items(request.read_query())
    candidates, refused = read_candidates(items, settings.method, settings.mask_parameters)
    wanted, skipped = select_unpublished(
        candidates,
        lambda keys: find_published(context.store, keys),
        force=request.force,
        workers=settings.workers,
    )
    return Plan(
        would_publish=tuple(_plan_scene(context, candidate) for candidate in wanted),
        skipped=tuple(outcome.id for outcome in skipped),
        failed=tuple(refused),
    )


def _plan_scene(context: RunContext, candidate: Candidate) -> PlannedScene:
    settings = context.settings
    cost = estimate_scene_cost(settings, candidate.scene)
    assets = [candidate.keys.mask("*"), candidate.keys.preview("*")]
    if settings.keep_inputs:
        assets.insert(1, candidate.keys.probability("*"))
    return PlannedScene(candidate.scene.id, candidate.keys.item, tuple(assets), cost.requests, cost.bytes)


@dataclass(frozen=True, slots=True)
class Status:
    """Counts by state, the states of what is not published, and by tile the days that lack.

    ``gaps`` is None where the source was not asked.
    """

    census: Census
    states: tuple[NotedState, ...]
    gaps: dict[str, list[date]] | None

    @property
    def quarantined(self) -> int:
        """How many of the failed scenes are left alone until their items change."""
        return sum(state.is_quarantined for state in self.states)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        census = self.census
        document: dict[str, Any] = {
            "published": census.published,
            "pending": census.pending,
            "waiting": census.waiting,
            "failed": census.failed,
            "quarantined": self.quarantined,
            "tiles": {tile: len(days) for tile, days in sorted(census.days.items())},
            "states": [
                {
                    "id": state.item_id,
                    "state": str(state.kind),
                    "reason": state.reason,
                    "attempts": state.attempts,
                    "next_try": state.next_try.isoformat() if state.next_try else None,
                }
                for state in self.states
            ],
        }
        if self.gaps is not None:
            document["gaps"] = {tile: [day.isoformat() for day in days] for tile, days in self.gaps.items()}
        return document


def read_status(request: IngestRequest) -> Status:
    """The status of the request's store; the source is asked for what the request's query names."""
    context = RunContext.of(request, read_only=True)
    census = read_census(context.store)
    gaps = None
    if request.tiles or request.items:
        settings = context.settings
        items = context.source.find_items(request.read_query())
        candidates, _ = read_candidates(items, settings.method, settings.mask_parameters)
        gaps = census.find_gaps(
            (candidate.scene.tile, candidate.scene.datetime.date()) for candidate in candidates
        )
    return Status(census, tuple(list_states(context.store)), gaps)
