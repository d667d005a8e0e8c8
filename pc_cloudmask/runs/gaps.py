"""Compare which scenes one catalogue has and another lacks, without I/O.

How scenes are matched
----------------------
A scene is a satellite, a tile and a datatake. Its items in different catalogues do not share an id, see
``source.fields``.

1. Items that give the start of their datatake belong together if their starts are within ``TOLERANCE``: an archive that
   processes a datatake again may round it differently. A satellite passes a tile once in an orbit of a hundred minutes.
2. An item that gives only an instant joins the datatake that was under way then: the last one that began before it,
   within ``LONGEST_DATATAKE``. Items for which there is none form their own scenes by the same rule.
3. Reissued products, and the parts of a datatake that is split into datastrips, are one scene.

A catalogue lacks a scene only if it was asked and answered completely. One that was out of reach, or not asked, neither
has nor lacks anything. Whether a scene lies in an interval is decided by the start of its datatake, so that a midnight
between this start and the sensing of a tile makes no gap; catalogues are therefore asked for ``LONGEST_DATATAKE`` more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any

from pc_cloudmask.scene.query import format_instant
from pc_cloudmask.source.fields import SENSING, Sighting

#: Largest difference between the starts of one datatake in two archives.
TOLERANCE = timedelta(seconds=60)
#: A datatake lasts at most the daylit half of an orbit.
LONGEST_DATATAKE = timedelta(hours=1)
#: A datastrip may begin seconds before the nominal start of its datatake.
CLOCK_SLACK = timedelta(minutes=5)


class CatalogueName(StrEnum):
    """The catalogues compared, in the order in which they are shown."""

    SOURCE = "source"
    CATALOG = "catalog"
    EARTH_ENGINE = "earth_engine"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Holding:
    """What one catalogue has of a scene: its items, since when, and how many datastrips, 0 if it does not say."""

    ids: tuple[str, ...]
    since: datetime
    told: str
    strips: int

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"ids": list(self.ids), "since": format_instant(self.since), "since_is": self.told}


@dataclass(frozen=True, slots=True)
class MatchedScene:
    """A scene and who has it, by catalogue name; ``start_is`` is "start" if an item gave ``start``, or ``SENSING``."""

    tile: str
    start: datetime
    platform: str
    holdings: Mapping[str, Holding] = field(hash=False)
    start_is: str

    @property
    def key(self) -> tuple[str, datetime, str]:
        """Identifies and orders scenes."""
        return (self.tile, self.start, self.platform)

    def as_json(self) -> dict[str, Any]:
        """Return which scene it is, as plain JSON values."""
        return {"tile": self.tile, "platform": self.platform, "datatake": format_instant(self.start)}


@dataclass(frozen=True, slots=True)
class Gap:
    """A scene and the catalogues ``lacking`` it, if any; ``state`` and ``reason`` are those recorded in our store."""

    scene: MatchedScene
    lacking: tuple[str, ...]
    areas: tuple[str, ...] = ()
    state: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        scene = self.scene
        return {
            **scene.as_json(),
            "datatake_is": scene.start_is,
            "lacking": list(self.lacking),
            "having": [
                {"catalogue": name, **scene.holdings[name].as_json()}
                for name in CatalogueName
                if name in scene.holdings
            ],
            "areas": list(self.areas),
            **({"state": self.state, "reason": self.reason} if self.state else {}),
        }


@dataclass(slots=True)
class _Datatake:
    """Sightings of one datatake on one tile, by the name of their catalogue."""

    start: datetime
    start_is: str
    seen: dict[str, list[Sighting]] = field(default_factory=dict)


def match_sightings(seen: Mapping[str, Iterable[Sighting]]) -> list[MatchedScene]:
    """Return the scenes seen by the catalogues, sorted by tile and time."""
    passes: dict[tuple[str, str], list[tuple[str, Sighting]]] = {}
    for name, sightings in seen.items():
        for sighting in sightings:
            passes.setdefault((sighting.platform, sighting.tile), []).append((name, sighting))
    scenes = [
        MatchedScene(tile, each.start, platform, _build_holdings(each.seen), each.start_is)
        for (platform, tile), found in passes.items()
        for each in _split_datatakes(found)
    ]
    return sorted(scenes, key=lambda scene: scene.key)


def _split_datatakes(found: Iterable[tuple[str, Sighting]]) -> list[_Datatake]:
    """Return the datatakes in the sightings of one satellite and tile, first those of which the start is told."""
    datatakes: list[_Datatake] = []
    by_start = attrgetter("start")
    told_first = sorted(found, key=lambda entry: (not entry[1].start, entry[1].start or entry[1].moment))
    for name, each in told_first:
        moment, start_is = (each.start, "start") if each.start else (each.moment, SENSING)
        known, slack, longest = datatakes[-1:], timedelta(), TOLERANCE
        if not each.start:
            known, slack, longest = datatakes, CLOCK_SLACK, LONGEST_DATATAKE
        fitting = [one for one in known if one.start - slack <= moment <= one.start + longest]
        if not fitting:
            fitting = [_Datatake(moment, start_is)]
            datatakes += fitting
        # The last one that had begun, or else the first to begin.
        begun = [one for one in fitting if one.start <= moment]
        chosen = max(begun, key=by_start) if begun else min(fitting, key=by_start)
        chosen.seen.setdefault(name, []).append(each)
    return datatakes


def _build_holdings(seen: Mapping[str, Sequence[Sighting]]) -> dict[str, Holding]:
    """Return what each catalogue has of one scene; the earliest ``since`` counts."""
    holdings = {}
    for name, sightings in seen.items():
        first = min(sightings, key=lambda each: (each.told == SENSING, each.since))
        ids = tuple(sorted({each.item_id for each in sightings}))
        strips = {each.strip for each in sightings} - {""}
        holdings[name] = Holding(ids, first.since, first.told, len(strips))
    return holdings


def find_lacking(scene: MatchedScene, asked: Collection[str]) -> tuple[str, ...]:
    """Return the names in ``asked`` of catalogues that do not have the scene."""
    return tuple(name for name in CatalogueName if name in asked and name not in scene.holdings)


@dataclass(frozen=True, slots=True)
class AreaSightings:
    """What was seen of one area, by catalogue name, and which catalogues answered completely.

    ``seen`` may include scenes outside the area: ``inside`` has the catalogue names and item ids that are in it.
    ``first`` and ``last`` limit the start of the datatake.
    """

    name: str
    first: datetime
    last: datetime
    seen: Mapping[str, Sequence[Sighting]] = field(hash=False)
    inside: frozenset[tuple[str, str]]
    asked: frozenset[str]

    def holds(self, scene: MatchedScene) -> bool:
        """Return True if the scene was seen in the area, within its period."""
        return self.first <= scene.start.replace(microsecond=0) <= self.last and any(
            (name, item_id) in self.inside
            for name, holding in scene.holdings.items()
            for item_id in holding.ids
        )


def compare_areas(areas: Sequence[AreaSightings]) -> list[Gap]:
    """Return every scene of the areas once, including those that no catalogue lacks, sorted by tile and time.

    A catalogue that was out of reach for one area may have a scene in another one, and is judged by that.
    """
    pooled: dict[str, list[Sighting]] = {}
    for area in areas:
        for name, sightings in area.seen.items():
            pooled.setdefault(name, []).extend(sightings)
    found = []
    for scene in match_sightings(pooled):
        holding = [area for area in areas if area.holds(scene)]
        asked = frozenset(name for area in holding for name in area.asked)
        if holding:
            found.append(Gap(scene, find_lacking(scene, asked), tuple(area.name for area in holding)))
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What to report about one catalogue: where it is and, unless it was asked for everything, why not.

    ``counts`` are, for our own catalog, scenes by recorded state.
    """

    name: str
    where: str
    asked: bool
    scenes: int | None = None
    why_not: str = ""
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        document = {"where": self.where, "asked": self.asked, "scenes": self.scenes, **self.counts}
        return {**document, "why_not": self.why_not} if self.why_not else document


@dataclass(frozen=True, slots=True)
class GapReport:
    """The result of the census: who was asked, and which scenes some of them lack.

    ``uneven`` are scenes of which one catalogue has fewer datastrips than another: archives split datatakes
    differently, so this proves no gap. ``problems`` say what could not be reached or read.
    """

    first: datetime
    last: datetime
    areas: tuple[str, ...]
    scenes: int
    answers: tuple[Answer, ...]
    gaps: tuple[Gap, ...]
    uneven: tuple[MatchedScene, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if every configured catalogue answered completely."""
        return not self.problems

    def count_lacking(self, name: str) -> int:
        """Return how many scenes the catalogue lacks."""
        return sum(name in gap.lacking for gap in self.gaps)

    @property
    def summary(self) -> str:
        """Return the census in one line."""
        asked = [answer.name for answer in self.answers if answer.asked]
        lacks = ", ".join(f"{self.count_lacking(name)} not in {name}" for name in asked)
        state = "" if self.is_complete else "; not complete"
        return f"{self.scenes} scenes in {len(asked)} catalogues: {lacks or 'nothing to compare'}{state}"

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "complete": self.is_complete,
            "datetime": f"{format_instant(self.first)}/{format_instant(self.last)}",
            "areas": list(self.areas),
            "scenes": self.scenes,
            "catalogues": {
                answer.name: {**answer.as_json(), "lacking": self.count_lacking(answer.name)}
                for answer in self.answers
            },
            "gaps": [gap.as_json() for gap in self.gaps],
            "uneven": [
                scene.as_json() | {"datastrips": {name: each.strips for name, each in scene.holdings.items()}}
                for scene in self.uneven
            ],
            "problems": list(self.problems),
        }


def find_uneven(scenes: Iterable[MatchedScene]) -> list[MatchedScene]:
    """Return the scenes that catalogues have in different numbers of datastrips; ours follows its source."""

    def count_strips(scene: MatchedScene) -> set[int]:
        return {each.strips for name, each in scene.holdings.items() if name != CatalogueName.CATALOG} - {0}

    return [scene for scene in scenes if len(count_strips(scene)) > 1]
