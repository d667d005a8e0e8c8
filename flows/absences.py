"""Published scenes that their source no longer has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

AGREEING_SCANS = 3
SCAN_SPACING = timedelta(hours=12)
"""Time between two scans that count as two: outages last hours, and an API caches what it found."""


@dataclass(frozen=True, slots=True)
class Absence:
    """One published scene that ``scans`` complete scans in a row did not find."""

    tile: str
    year: int
    scans: int
    first: datetime
    last: datetime

    @property
    def is_certain(self) -> bool:
        """Whether enough scans agree."""
        return self.scans >= AGREEING_SCANS

    def count_scan(self, now: datetime) -> Absence:
        """This absence after another scan at ``now`` without the scene; too soon after the last, unchanged.

        A clock that ran ahead once must not stop the count: an earlier ``now`` begins its spacing anew.
        """
        if now < self.last:
            return replace(self, last=now)
        if now - self.last < SCAN_SPACING:
            return self
        return replace(self, scans=self.scans + 1, last=now)


Absences = Mapping[str, Absence]
"""By the item's id."""


def count_absences(
    absences: Absences, missing: Mapping[str, tuple[str, int]], present: Iterable[str], now: datetime
) -> dict[str, Absence]:
    """``absences`` after one complete scan.

    ``missing`` are the published scenes, with tile and year, that the source was asked for and does not
    have; ``present`` are the ids that it has. What this scan did not look at stays as it is.
    """
    kept = dict(absences)
    for item_id in present:
        kept.pop(item_id, None)
    for item_id, (tile, year) in missing.items():
        known = kept.get(item_id)
        kept[item_id] = known.count_scan(now) if known else Absence(tile, year, 1, now, now)
    return kept
