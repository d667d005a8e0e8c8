"""What a run would do, what has been done, and years of an area as many runs, determined without writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

from pc_cloudmask.catalog.search import Census, read_census
from pc_cloudmask.catalog.states import NotedState, list_states
from pc_cloudmask.catalog.walk import find_published
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.earth_engine.windows import CostEstimate, estimate_pairing
from pc_cloudmask.runs.area_state import list_months
from pc_cloudmask.runs.budget import estimate_scene_cost
from pc_cloudmask.runs.candidate import Candidate, read_candidates, select_unpublished
from pc_cloudmask.runs.context import RunContext, check_reachable
from pc_cloudmask.runs.report import SceneOutcome
from pc_cloudmask.runs.request import BackfillRequest, IngestRequest
from pc_cloudmask.scene.query import format_datetime_interval
from pc_cloudmask.settings import Area, Settings, read_clock
from pc_cloudmask.source.fields import SceneSource, find_property

#: Scenes in one run of a backfill; more if one tile has more in a month. With 100 to 500, a run takes hours at most,
#: and killing it costs no more than a batch.
SHARD_SCENES = 250
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlannedScene:
    """A scene that would be published, the keys of its item and assets, and the cost of its inputs.

    An asset's key contains the hash of its content, which is not known yet: it ends in ``-*``.
    """

    id: str
    item: str
    assets: tuple[str, ...]
    requests: int
    bytes: int
    asset_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The scenes of a dry run.

    Earth Engine is not asked whether it has images, so costs are those of the best method that may make each mask.
    ``requests`` include those that pair scenes with images, ``asset_bytes`` are of the items' own assets.
    ``provisional`` are the scenes to be published that already have a mask by a lesser method.
    """

    would_publish: tuple[PlannedScene, ...] = ()
    provisional: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[SceneOutcome, ...] = ()
    requests: int = 0
    bytes: int = 0
    asset_bytes: int = 0

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all scenes found."""
        planned = (scene.id for scene in self.would_publish)
        return frozenset((*self.skipped, *planned, *(outcome.id for outcome in self.failed)))

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values; ``failed`` as in a report."""
        return {
            "dry_run": True,
            "would_publish": [asdict(scene) for scene in self.would_publish],
            "skipped": self.skipped,
            "failed": [scene.as_failure() for scene in self.failed],
            "requests": self.requests,
            "bytes": self.bytes,
            **({"provisional": self.provisional} if self.provisional else {}),
            "asset_bytes": self.asset_bytes,
        }


def plan_ingest(context: RunContext, request: IngestRequest) -> Plan:
    """Return what ``ingest`` would do for ``request``."""
    settings, query = context.settings, request.read_query()
    check_reachable(context.source, query, settings, request.items)
    candidates, refused = read_candidates(context.source.find_items(query), settings.rungs)
    wanted, final = select_unpublished(
        candidates,
        partial(find_published, context.store),
        context.ladder,
        context.now,
        force=request.force,
        workers=settings.workers,
    )
    costs = [estimate_scene_cost(settings, candidate) for candidate in wanted]
    asking = (each.scene.datetime for each, cost in zip(wanted, costs, strict=True) if cost.requests)
    return Plan(
        would_publish=tuple(map(partial(_plan_scene, settings), wanted, costs)),
        skipped=tuple(candidate.scene.id for candidate in final),
        provisional=tuple(candidate.scene.id for candidate in wanted if candidate.is_current),
        failed=tuple(refused),
        **asdict(sum(costs, estimate_pairing(asking))),
    )


def _plan_scene(settings: Settings, candidate: Candidate, cost: CostEstimate) -> PlannedScene:
    keys = candidate.keys
    probability = [keys.probability("*")] if settings.keep_inputs else []
    assets = (keys.mask("*"), *probability, keys.preview("*"))
    return PlannedScene(candidate.scene.id, keys.item, assets, **asdict(cost))


@dataclass(frozen=True, slots=True)
class Status:
    """Counts by state, the states of scenes to be tried again, and the missing days by tile.

    ``gaps`` is None if the source was not asked.
    """

    census: Census
    states: tuple[NotedState, ...]
    gaps: dict[str, list[date]] | None

    @property
    def quarantined(self) -> int:
        """How many of the failed scenes are left alone until their items change."""
        return sum(state.is_quarantined for state in self.states)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        states = [
            {
                "id": state.item_id,
                "state": state.kind,
                "reason": state.reason,
                "attempts": state.attempts,
                "next_try": state.next_try.isoformat() if state.next_try else None,
            }
            for state in self.states
        ]
        counts = asdict(self.census)
        days = counts.pop("days")
        document = {
            **counts,
            "quarantined": self.quarantined,
            "tiles": {tile: len(found) for tile, found in sorted(days.items())},
            "states": states,
        }
        if self.gaps is not None:
            document["gaps"] = {tile: [day.isoformat() for day in found] for tile, found in self.gaps.items()}
        return document


def read_status(context: RunContext, request: IngestRequest) -> Status:
    """Return the status of the store; the source is asked for what the request's query names."""
    census = read_census(context.store)
    gaps = None
    if request.tiles or request.items:
        items = context.source.find_items(request.read_query())
        # Which scenes exist depends on no threshold, and counting them requires no weights.
        candidates, _ = read_candidates(items, dict.fromkeys(context.settings.ladder, MaskParameters()))
        gaps = census.find_gaps((each.scene.tile, each.scene.datetime.date()) for each in candidates)
    return Status(census, tuple(list_states(context.store)), gaps)


def plan_shards(source: SceneSource, request: BackfillRequest, settings: Settings) -> Iterator[IngestRequest]:
    """Yield requests that together cover all of ``request``, newest months first.

    Small months are combined into one shard; a large one is split by tiles. The source is asked what each month
    contains, so no shard is empty; if an error ends this, the shards already yielded remain valid.
    """
    given = request.model_dump(include={"items", "method", "compute", "store", "keep_inputs", "config"})
    for area in request.read_areas(settings).values():
        given |= {"bbox": area.bbox, "intersects": area.intersects}
        for newest, *earlier in _pack(_count_months(source, area, request), lambda month: month.scenes):
            interval = _format_months(earlier[-1].start if earlier else newest.start, newest.end)
            groups: Iterable[Sequence[str]] = [area.tiles]
            if newest.scenes > SHARD_SCENES:
                groups = _pack(sorted(filter(None, newest.counts)), newest.counts.__getitem__)
            for tiles in groups:
                yield IngestRequest(**given, tiles=tuple(tiles), datetime=interval)


def _pack(parts: Iterable[T], count: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield ``parts`` that follow one another in groups of at most ``SHARD_SCENES`` scenes, or of a single part."""
    group: list[T] = []
    for part in parts:
        if group and sum(map(count, [*group, part])) > SHARD_SCENES:
            yield group
            group = []
        group.append(part)
        if count(part) > SHARD_SCENES:  # handed out before the next part is asked for, which may fail
            yield group
            group = []
    if group:
        yield group


class _Month(NamedTuple):
    """A month, or a part of the first or last, and its number of scenes by tile."""

    start: datetime
    end: datetime
    counts: Counter[str]

    @property
    def scenes(self) -> int:
        return self.counts.total()


def _count_months(source: SceneSource, area: Area, request: BackfillRequest) -> Iterator[_Month]:
    """Yield the months that have scenes, newest first."""
    start, end = request.read_period()
    now = request.now or read_clock()
    newest = min(end, now) if end else now
    for _, (first, last) in list_months(max(start, area.start), f"{newest:%Y-%m}"):
        cut = min(last, end) if end else last
        items = source.find_items(area.read_query((first, cut)))
        tiles = (find_property(item, "s2:mgrs_tile") for item in items)
        if counts := Counter(tile if isinstance(tile, str) else "" for tile in tiles):
            yield _Month(first, cut, counts)


def _format_months(start: datetime, end: datetime) -> str:
    """Return ``2018-12`` or ``2018-11/2018-12`` for complete months, else instants."""
    next_instant = end + timedelta(microseconds=1)
    if (start.day, next_instant.day) != (1, 1) or start.time() != next_instant.time():
        return format_datetime_interval((start, end))
    first, last = f"{start:%Y-%m}", f"{end:%Y-%m}"
    return first if first == last else f"{first}/{last}"
