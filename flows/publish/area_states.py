"""What is remembered of watched areas, beside the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from flows.absences import Absence
from flows.area import check_area_name
from flows.errors import InvalidField
from flows.ports import ObjectStore
from flows.rings import RingProgress
from flows.scene.query import parse_instant
from flows.stac.layout import WATCH_PREFIX, check_item_id, check_tile
from flows.stac.links import JSON_MEDIA_TYPE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AreaState:
    """Progress and findings of one area's scans.

    ``digest`` tells for which extent; ``tiles`` are those that the source was seen to have there.
    Losing it costs a scan of everything, and delays withdrawals: nothing else.
    """

    name: str
    digest: str
    progress: RingProgress = field(default_factory=RingProgress)
    tiles: frozenset[str] = frozenset()
    absences: Mapping[str, Absence] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{WATCH_PREFIX}{self.name}.json"


def read_area_state(store: ObjectStore, name: str, digest: str) -> AreaState:
    """The state of the area; a fresh one where there is none, or where the area's extent has changed."""
    fresh = AreaState(check_area_name(name), digest)
    stored = store.read_object(fresh.key)
    if stored is None:
        return fresh
    try:
        state = _read_document(name, json.loads(stored.body))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, InvalidField):
        logger.warning("%s is not a state of this program: it is made anew", fresh.key)
        return fresh
    return state if state.digest == digest else replace(fresh, absences=state.absences)


def write_area_state(store: ObjectStore, state: AreaState) -> None:
    """Put the state."""
    document = {
        "digest": state.digest,
        "recent_day": state.progress.recent_day,
        "full_month": state.progress.full_month,
        "full_next": state.progress.full_next,
        "tiles": sorted(state.tiles),
        "absences": {
            item_id: {
                "tile": absence.tile,
                "year": absence.year,
                "scans": absence.scans,
                "first": absence.first.isoformat(),
                "last": absence.last.isoformat(),
            }
            for item_id, absence in sorted(state.absences.items())
        },
    }
    store.write_object(state.key, json.dumps(document).encode(), JSON_MEDIA_TYPE)


def _read_document(name: str, document: dict[str, Any]) -> AreaState:
    progress = RingProgress(
        *(
            None if document[key] is None else str(document[key])
            for key in ("recent_day", "full_month", "full_next")
        )
    )
    if progress.full_next is not None:
        datetime.strptime(progress.full_next, "%Y-%m")
    absences = {
        check_item_id(item_id): Absence(
            check_tile(entry["tile"]),
            int(entry["year"]),
            int(entry["scans"]),
            parse_instant(entry["first"]),
            parse_instant(entry["last"]),
        )
        for item_id, entry in document["absences"].items()
    }
    tiles = frozenset(check_tile(tile) for tile in document["tiles"])
    return AreaState(name, str(document["digest"]), progress, tiles, absences)
