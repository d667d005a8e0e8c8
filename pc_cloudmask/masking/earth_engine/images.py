"""Which Earth Engine images belong to many scenes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import ee

from pc_cloudmask.errors import EngineRefused, InvalidField
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, TooMuch
from pc_cloudmask.masking.earth_engine.windows import L2A, PAIRING_CHUNK
from pc_cloudmask.scene.image import (
    ImageCandidate,
    ImageKey,
    Pairing,
    Waiting,
    pair_images,
    parse_image_index,
    read_image_key,
)
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.web import Deadline

#: Indexes found in each collection; images of the scenes' datatakes, where they were asked for.
Found = tuple[dict[str, Collection[str]], list[ImageCandidate] | None]
#: A datatake is at most one orbit's daylit half.
LONGEST_DATATAKE = timedelta(hours=1)
#: Datastrips begin up to seconds before the datatake's nominal start: ``20190101T000001_20181231T235957``.
CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A scene with the image that it should have."""

    scene: Scene
    key: ImageKey


class ImageFinder:
    """Pairs scenes with images that are in every one of ``collections``."""

    def __init__(self, session: EarthEngineSession, *collections: str) -> None:
        self._session = session
        self._collections = (L2A, *collections)

    def find_images(self, scenes: Sequence[Scene]) -> dict[str, Pairing]:
        """By scene id, the Earth Engine image or why there is none yet.

        One request for up to ``PAIRING_CHUNK`` scenes, and one more for those of them whose very
        image is nowhere, so that footprints decide. Scenes near in time go together; where they are too
        many for Earth Engine to find at a time, they go on in halves.

        Raises:
            EngineUnavailable, EngineRefused: nothing can be said of any scene.
        """
        pairings: dict[str, Pairing] = {}
        wanted: list[_Wanted] = []
        for scene in scenes:
            try:
                wanted.append(_Wanted(scene, read_image_key(scene)))
            except InvalidField as error:
                # One item's fault must not cost the others their images.
                pairings[scene.id] = Waiting(f"cannot be paired with an image: {error}")
        if not wanted:
            return pairings
        self._session.start()
        deadline = Deadline(self._session.limits.deadline_s)
        wanted.sort(key=lambda want: want.key)
        with self._session.statistics.phase("pairing"):
            unknown: list[_Wanted] = []
            for chunk in _chunks(wanted):
                exact = self._pair(chunk, self._find_own, deadline)
                pairings |= {scene_id: pairing for scene_id, pairing in exact.items() if pairing}
                unknown += [want for want in chunk if exact[want.scene.id] is None]
            for chunk in _chunks(unknown):
                by_footprint = self._pair(chunk, self._find_candidates, deadline)
                pairings |= {scene_id: pairing for scene_id, pairing in by_footprint.items() if pairing}
        return pairings

    def _pair(
        self,
        chunk: Sequence[_Wanted],
        find: Callable[[Sequence[_Wanted], Deadline], Found],
        deadline: Deadline,
    ) -> dict[str, Pairing | None]:
        """Pair ``chunk`` with what ``find`` finds, or its halves where it is too much for one request."""
        try:
            present, candidates = find(chunk, deadline)
        except TooMuch as error:
            if len(chunk) == 1:
                raise error.failure.error_class(
                    f"finding the image of {chunk[0].scene.id}: {error}"
                ) from error
            self._session.statistics.count(splits=1)
            half = len(chunk) // 2
            return self._pair(chunk[:half], find, deadline) | self._pair(chunk[half:], find, deadline)
        return {want.scene.id: pair_images(want.scene, want.key, present, candidates) for want in chunk}

    def _find_own(self, chunk: Sequence[_Wanted], deadline: Deadline) -> Found:
        """Look for the very images of the scenes."""
        indexes = sorted({want.key.index for want in chunk})
        found = [
            _within(chunk, collection)
            .filter(ee.Filter.inList("system:index", indexes))
            .aggregate_array("system:index")
            for collection in self._collections
        ]
        present = self._compute(ee.List(found), f"finding the images of {len(chunk)} scenes", deadline)
        return dict(zip(self._collections, map(frozenset, present), strict=True)), None

    def _find_candidates(self, chunk: Sequence[_Wanted], deadline: Deadline) -> Found:
        """Look for other images of the same datatakes and tiles."""
        starts = sorted({want.key.datatake_start for want in chunk})
        images = (
            _within(chunk, L2A)
            .filter(ee.Filter.inList("MGRS_TILE", sorted({want.key.tile for want in chunk})))
            .filter(ee.Filter.Or(*(ee.Filter.stringStartsWith("system:index", start) for start in starts)))
        )
        columns = ["system:index", "system:footprint"]
        rows = images.reduceColumns(ee.Reducer.toList(len(columns)), columns).get("list")
        known = ee.Filter.inList("system:index", images.aggregate_array("system:index"))
        others = [
            _within(chunk, collection).filter(known).aggregate_array("system:index")
            for collection in self._collections[1:]
        ]
        what = f"finding images by footprint for {len(chunk)} scenes"
        found, *present = self._compute(ee.List([rows, *others]), what, deadline)
        candidates = [
            ImageCandidate(key, footprint) for index, footprint in found if (key := parse_image_index(index))
        ]
        in_each = [frozenset(row[0] for row in found), *map(frozenset, present)]
        return dict(zip(self._collections, in_each, strict=True)), candidates

    def _compute(self, value: ee.List, what: str, deadline: Deadline) -> list[Any]:
        """Return the value, a list with one entry for each collection."""
        answer = self._session.call(what, partial(ee.data.computeValue, value), deadline)
        if not isinstance(answer, list) or len(answer) != len(self._collections):
            raise EngineRefused(f"{what}: Earth Engine answered with something else than the lists asked for")
        return answer


def _within(chunk: Sequence[_Wanted], collection: str) -> ee.ImageCollection:
    """Return the collection's images from about the first datatake's start to the last one's end."""
    starts = [_parse_time(want.key.datatake_start) for want in chunk]
    start, end = min(starts) - CLOCK_SLACK, max(starts) + LONGEST_DATATAKE
    images: ee.ImageCollection = ee.ImageCollection(collection).filterDate(_millis(start), _millis(end))
    return images


def _chunks(wanted: Sequence[_Wanted]) -> Iterator[Sequence[_Wanted]]:
    for start in range(0, len(wanted), PAIRING_CHUNK):
        yield wanted[start : start + PAIRING_CHUNK]


def _parse_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
