"""What the catalog holds, beside what the source has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from flows.candidate import read_candidates
from flows.publish.census import Census, read_census
from flows.publish.scene_states import NotedState, list_states
from flows.request import IngestRequest
from flows.wiring import Wiring


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
    wiring = Wiring.of(request, read_only=True)
    census = read_census(wiring.store)
    gaps = None
    if request.tiles or request.items:
        settings = wiring.settings
        items = wiring.source.find_items(request.read_query())
        candidates, _ = read_candidates(items, settings.method, settings.mask_parameters)
        gaps = census.find_gaps(
            (candidate.scene.tile, candidate.scene.datetime.date()) for candidate in candidates
        )
    return Status(census, tuple(list_states(wiring.store)), gaps)
