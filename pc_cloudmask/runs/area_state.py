"""What the store keeps of a watched area: which scans are complete, and which scenes the source lacks.

Losing it costs a scan of everything and delays withdrawals: nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from pc_cloudmask.catalog.fields import JSON_MEDIA_TYPE
from pc_cloudmask.catalog.layout import WATCH_PREFIX
from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.ids import check_item_id, check_tile
from pc_cloudmask.settings import check_area_name
from pc_cloudmask.storage.store import ObjectStore

#: Scans in a row that must miss a scene before it is withdrawn.
AGREEING_SCANS = 3
#: Time between two scans that count as two: outages last hours, and an API caches what it found.
SCAN_SPACING = timedelta(hours=12)
logger = logging.getLogger(__name__)
ItemId = Annotated[str, AfterValidator(check_item_id)]
Tile = Annotated[str, AfterValidator(check_tile)]


@dataclass(frozen=True, slots=True)
class MissingScan:
    """One published scene that ``scans`` complete scans in a row did not find."""

    tile: Tile
    year: int
    scans: int
    first: AwareDatetime
    last: AwareDatetime

    @property
    def is_certain(self) -> bool:
        """True if enough scans agree."""
        return self.scans >= AGREEING_SCANS

    def count_scan(self, now: datetime) -> MissingScan:
        """Return this after another scan at ``now`` without the scene; too soon after the last, unchanged.

        A clock that ran ahead once must not stop the count: an earlier ``now`` begins its spacing again.
        """
        if now < self.last:
            return replace(self, last=now)
        if now - self.last < SCAN_SPACING:
            return self
        return replace(self, scans=self.scans + 1, last=now)


def count_missing_scans(
    missing_scans: Mapping[str, MissingScan],
    missing: Mapping[str, tuple[str, int]],
    present: Iterable[str],
    now: datetime,
) -> dict[str, MissingScan]:
    """Return ``missing_scans`` after one complete scan; what it did not look at stays as it is.

    Args:
        missing_scans: what earlier scans missed, by the item's id.
        missing: tile and year of the published scenes that the source was asked for and does not have.
        present: ids of scenes that it has.
        now: when the scan was.
    """
    gone = set(present)
    kept = {item_id: each for item_id, each in missing_scans.items() if item_id not in gone}
    for item_id, (tile, year) in missing.items():
        known = kept.get(item_id)
        kept[item_id] = known.count_scan(now) if known else MissingScan(tile, year, 1, now, now)
    return kept


class AreaState(BaseModel):
    """Progress and findings of one area's scans; days are ``2018-12-14``, months ``2018-12``.

    ``digest`` tells for which extent. ``recent_day`` is the day of the last complete scan of the recent window,
    ``full_month`` the month in which everything was last begun to be scanned, ``full_next`` the month to go on with,
    None once all is done. ``tiles`` are those that the source was seen to have there.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    recent_day: str | None = None
    full_month: str | None = None
    full_next: Annotated[str | None, Field(pattern="^20[0-9]{2}-(0[1-9]|1[0-2])$")] = None
    tiles: frozenset[Tile] = frozenset()
    missing_scans: dict[ItemId, MissingScan] = Field(default_factory=dict)


def read_area_state(store: ObjectStore, name: str, digest: str) -> AreaState:
    """Return the area's state; a fresh one where there is none, or where the area's extent has changed."""
    fresh = AreaState(digest=digest)
    stored = store.read_object(_build_key(name))
    if stored is None:
        return fresh
    try:
        state = AreaState.model_validate_json(stored.body)
    except (ValueError, InvalidField):
        logger.warning("%s is not a state of this program: it is made again", _build_key(name))
        return fresh
    return (
        state if state.digest == digest else fresh.model_copy(update={"missing_scans": state.missing_scans})
    )


def write_area_state(store: ObjectStore, name: str, state: AreaState) -> None:
    """Write the state of the area ``name``."""
    document = state.model_dump(mode="json") | {"tiles": sorted(state.tiles)}
    store.write_object(_build_key(name), json.dumps(document).encode(), JSON_MEDIA_TYPE)


def _build_key(name: str) -> str:
    return f"{WATCH_PREFIX}{check_area_name(name)}.json"
