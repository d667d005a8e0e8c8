"""Which images Earth Engine has, and which of them belong to many scenes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ee

from pc_cloudmask.errors import EngineRefused, InvalidField
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, TooMuch
from pc_cloudmask.masking.earth_engine.windows import L2A, cut_for_pairing
from pc_cloudmask.scene.geometry import build_box
from pc_cloudmask.scene.image import (
    ImageCandidate,
    ImageKey,
    Pairing,
    Waiting,
    pair_images,
    parse_image_index,
    read_image_key,
)
from pc_cloudmask.scene.query import SceneQuery, parse_datetime_interval, split_interval
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.web import Deadline

#: Indexes found in each collection; images of the scenes' datatakes, if they were asked for.
Found = tuple[dict[str, Collection[str]], list[ImageCandidate] | None]
#: A datatake is at most the daylit half of one orbit.
LONGEST_DATATAKE = timedelta(hours=1)
#: Datastrips begin up to seconds before the datatake's nominal start: ``20190101T000001_20181231T235957``.
CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A scene with the image that it should have."""

    scene: Scene
    key: ImageKey

    @property
    def start(self) -> datetime:
        """Return the nominal start of the datatake."""
        return datetime.strptime(self.key.datatake_start, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


class ImageFinder:
    """Pairs scenes with images that are in ``reflectance`` and in all of ``collections``."""

    def __init__(self, session: EarthEngineSession, *collections: str, reflectance: str = L2A) -> None:
        self._session = session
        self._collections = (reflectance, *collections)

    def find_images(self, scenes: Sequence[Scene]) -> dict[str, Pairing]:
        """Return, by scene id, the Earth Engine image or why there is none yet.

        It sends one request for up to ``PAIRING_CHUNK`` scenes within ``PAIRING_SPAN``, and one more for those whose
        own image is missing, so that footprints decide. Scenes that are too many for Earth Engine to find at a time
        are split in halves. Chunks are in flight together, each with its own deadline. If nothing can be said of any
        scene, it raises EngineUnavailable or EngineRefused.
        """
        pairings: dict[str, Pairing] = {}
        wanted: list[_Wanted] = []
        for scene in scenes:
            try:
                wanted.append(_Wanted(scene, read_image_key(scene)))
            except InvalidField as error:
                # A fault of one item must not cost the others their images.
                pairings[scene.id] = Waiting(f"cannot be paired with an image: {error}")
        if not wanted:
            return pairings
        self._session.start()
        wanted.sort(key=lambda want: want.key)
        with self._session.statistics.phase("pairing"):
            exact = self._pair_all(wanted, self._find_own)
            unknown = [want for want in wanted if exact[want.scene.id] is None]
            found = exact | self._pair_all(unknown, self._find_candidates)
        return pairings | {scene_id: pairing for scene_id, pairing in found.items() if pairing}

    def _pair_all(
        self, wanted: Sequence[_Wanted], find: Callable[[Sequence[_Wanted], Deadline], Found]
    ) -> dict[str, Pairing | None]:
        """Pair ``wanted``, sorted by time, with what ``find`` finds, chunk by chunk; the first failure ends it."""
        chunks = [wanted[cut] for cut in cut_for_pairing([want.start for want in wanted])]
        pairings: dict[str, Pairing | None] = {}

        def pair(chunk: Sequence[_Wanted]) -> dict[str, Pairing | None]:
            return self._pair(chunk, find, Deadline(self._session.limits.pairing_deadline_s))

        pool = ThreadPoolExecutor(min(len(chunks), self._session.in_flight) or 1, "pairing")
        try:
            for paired in pool.map(pair, chunks):
                pairings |= paired
        finally:
            pool.shutdown(cancel_futures=True)
        return pairings

    def _pair(
        self,
        chunk: Sequence[_Wanted],
        find: Callable[[Sequence[_Wanted], Deadline], Found],
        deadline: Deadline,
    ) -> dict[str, Pairing | None]:
        """Pair ``chunk`` with what ``find`` finds, or its halves if it is too much for one request."""
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
        indexes = sorted({want.key.index for want in chunk})
        found = [
            _within(chunk, collection)
            .filter(ee.Filter.inList("system:index", indexes))
            .aggregate_array("system:index")
            for collection in self._collections
        ]
        present = self._compute(ee.List(found), f"finding the images of {len(chunk)} scenes", deadline)
        return dict(zip(self._collections, map(_read_indexes, present), strict=True)), None

    def _find_candidates(self, chunk: Sequence[_Wanted], deadline: Deadline) -> Found:
        """Look for other images of the same datatakes and tiles."""
        starts = sorted({want.key.datatake_start for want in chunk})
        images = (
            _within(chunk, self._collections[0])
            .filter(ee.Filter.inList("MGRS_TILE", sorted({want.key.tile for want in chunk})))
            .filter(ee.Filter.Or(*(ee.Filter.stringStartsWith("system:index", start) for start in starts)))
        )
        rows = _list_columns(images, "system:index", "system:footprint")
        known = ee.Filter.inList("system:index", images.aggregate_array("system:index"))
        others = [
            _within(chunk, collection).filter(known).aggregate_array("system:index")
            for collection in self._collections[1:]
        ]
        what = f"finding images by footprint for {len(chunk)} scenes"
        found, *present = self._compute(ee.List([rows, *others]), what, deadline)
        footprints = _read_rows(found)
        keys = ((parse_image_index(index), footprint) for index, footprint in footprints)
        candidates = [ImageCandidate(key, footprint) for key, footprint in keys if key]
        in_each = [frozenset(index for index, _ in footprints), *map(_read_indexes, present)]
        return dict(zip(self._collections, in_each, strict=True)), candidates

    def _compute(self, value: ee.List, what: str, deadline: Deadline) -> list[Any]:
        """Return the value, a list with one entry per collection."""
        answer = self._session.compute(what, value, deadline)
        if not isinstance(answer, list) or len(answer) != len(self._collections):
            raise _not_as_asked()
        return answer


def _read_indexes(found: Any) -> frozenset[str]:
    """Return the indexes found in a collection: an answer in another form says nothing about any image."""
    if not isinstance(found, list) or not all(isinstance(index, str) for index in found):
        raise _not_as_asked()
    return frozenset(found)


def _read_rows(found: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(found, list) or not all(
        isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)
        for row in found
    ):
        raise _not_as_asked()
    return [(index, footprint) for index, footprint in found]


def _not_as_asked() -> EngineRefused:
    return EngineRefused(
        "pairing: Earth Engine answered with something else than the lists of images asked for"
    )


def _within(chunk: Sequence[_Wanted], collection: str) -> ee.ImageCollection:
    """Return the collection's images from about the start of the first datatake to the end of the last one."""
    starts = [want.start for want in chunk]
    start, end = min(starts) - CLOCK_SLACK, max(starts) + LONGEST_DATATAKE
    images: ee.ImageCollection = ee.ImageCollection(collection).filterDate(_millis(start), _millis(end))
    return images


#: What one request lists: some 20,000 images, whose names take a megabyte.
TILES_AT_ONCE, TIME_AT_ONCE = 50, timedelta(days=31)


def list_images(session: EarthEngineSession, query: SceneQuery) -> Iterator[tuple[str, ImageKey]]:
    """Yield the satellite, such as ``S2B``, and the key of each image of Level-2A that ``query`` matches.

    It raises EngineUnavailable or EngineRefused if the list is not complete.
    """
    if query.datetime is None:
        raise ValueError("images are listed for a time")
    session.start()
    starts = range(0, max(1, len(query.tiles)), TILES_AT_ONCE)
    for tiles in (query.tiles[start : start + TILES_AT_ONCE] for start in starts):
        for first, last in split_interval(parse_datetime_interval(query.datetime), TIME_AT_ONCE):
            if first is None or last is None:
                raise ValueError("images are listed for a time that has a start and an end")
            yield from _list_part(session, query, tiles, first, last)


def _list_part(
    session: EarthEngineSession, query: SceneQuery, tiles: tuple[str, ...], first: datetime, last: datetime
) -> Iterator[tuple[str, ImageKey]]:
    images = ee.ImageCollection(L2A).filterDate(_millis(first), _millis(last) + 1)
    if tiles:
        images = images.filter(ee.Filter.inList("MGRS_TILE", list(tiles)))
    area = build_box(*query.bbox) if query.bbox else query.intersects
    if area:
        images = images.filterBounds(ee.Geometry(dict(area), None, False))
    # ``SPACECRAFT_NAME`` has values like ``Sentinel-2B``.
    rows = _list_columns(images, "system:index", "SPACECRAFT_NAME")
    answer = session.compute("listing images", rows)
    if not isinstance(answer, list):
        raise EngineRefused("Earth Engine answered with something else than the list of images asked for")
    for row in answer:
        key = parse_image_index(row[0]) if isinstance(row, list) and isinstance(row[0], str) else None
        if key is None or not str(row[-1]).startswith("Sentinel-2"):
            raise EngineRefused(f"Earth Engine lists an image of another form than Sentinel-2's: {row!r:.80}")
        yield f"S2{str(row[-1])[-1]}", key


def _list_columns(images: ee.ImageCollection, *columns: str) -> ee.ComputedObject:
    """Return, for each image, the list of these properties."""
    return images.reduceColumns(ee.Reducer.toList(len(columns)), list(columns)).get("list")


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
