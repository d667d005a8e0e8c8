"""Split years of an area into runs of a few hundred scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pc_cloudmask.runs.area_state import list_months
from pc_cloudmask.runs.request import BackfillRequest, IngestRequest
from pc_cloudmask.scene.query import format_datetime_interval
from pc_cloudmask.settings import Area, Settings, read_clock
from pc_cloudmask.source.fields import SceneSource, find_property

#: Scenes in one run; more if one tile has more in a month. With 100 to 500, a run takes hours at most, and killing it
#: costs no more than a batch.
SHARD_SCENES = 250


def plan_shards(source: SceneSource, request: BackfillRequest, settings: Settings) -> Iterator[IngestRequest]:
    """Yield requests that together cover all of ``request``, newest months first.

    Small months are combined into one shard; a large one is split by tiles. The source is asked what each month
    contains, so no shard is empty.

    Raises:
        SettingsError: unknown area or invalid years.
        SourceUnavailable, SourceRefused: the source could not be asked; shards already yielded remain valid.
    """
    for area in request.read_areas(settings).values():
        pending: _Months | None = None
        for months, counts in _count_months(source, area, request):
            if pending and pending.scenes + months.scenes > SHARD_SCENES:
                yield _build_shard(request, area, pending)
                pending = None
            if months.scenes > SHARD_SCENES:
                for tiles in _group_tiles(counts):
                    yield _build_shard(request, area, months, tiles)
            elif months.scenes:
                pending = months.join(pending) if pending else months
        if pending:
            yield _build_shard(request, area, pending)


@dataclass(frozen=True, slots=True)
class _Months:
    """Months, or parts of the first and last, that are requested together, and their number of scenes."""

    start: datetime
    end: datetime
    scenes: int

    def join(self, later: _Months) -> _Months:
        """Return these months combined with ``later`` ones."""
        return _Months(self.start, later.end, self.scenes + later.scenes)

    @property
    def interval(self) -> str:
        """``2018-12`` or ``2018-11/2018-12`` for complete months, else instants."""
        next_instant = self.end + timedelta(microseconds=1)
        if (self.start.day, next_instant.day) != (1, 1) or self.start.time() != next_instant.time():
            return format_datetime_interval((self.start, self.end))
        first, last = f"{self.start:%Y-%m}", f"{self.end:%Y-%m}"
        return first if first == last else f"{first}/{last}"


def _count_months(
    source: SceneSource, area: Area, request: BackfillRequest
) -> Iterator[tuple[_Months, Counter[str]]]:
    """Yield each month with its number of items by tile, newest month first."""
    start, end = request.read_period()
    now = request.now or read_clock()
    newest = min(end, now) if end else now
    for _, (first, last) in list_months(max(start, area.start), f"{newest:%Y-%m}"):
        cut = min(last, end) if end else last
        counts: Counter[str] = Counter()
        for item in source.find_items(area.read_query((first, cut))):
            tile = find_property(item, "s2:mgrs_tile")
            counts[tile if isinstance(tile, str) else ""] += 1
        yield _Months(first, cut, sum(counts.values())), counts


def _group_tiles(counts: Counter[str]) -> Iterator[tuple[str, ...]]:
    """Yield the tiles in groups of at most ``SHARD_SCENES`` scenes, or of a single tile."""
    group: list[str] = []
    scenes = 0
    for tile in sorted(filter(None, counts)):
        if group and scenes + counts[tile] > SHARD_SCENES:
            yield tuple(group)
            group, scenes = [], 0
        group.append(tile)
        scenes += counts[tile]
    if group:
        yield tuple(group)


def _build_shard(
    request: BackfillRequest, area: Area, months: _Months, tiles: tuple[str, ...] = ()
) -> IngestRequest:
    given = request.model_dump(include={"items", "method", "compute", "store", "keep_inputs", "config"})
    place: dict[str, Any] = {"bbox": area.bbox, "intersects": area.intersects, "tiles": tiles or area.tiles}
    return IngestRequest(**given, **place, datetime=months.interval)
