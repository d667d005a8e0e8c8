"""The census of scenes: asks every catalogue what it has, and compares the answers.

Catalogues are asked area by area. At the edge of an area given by a box or a geometry, their answers may differ because
their footprints do. So a catalogue that seems to lack a scene is asked again, for everything it has of the scene's
tile: only if that lacks the scene too, the catalogue lacks it.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from pc_cloudmask.catalog.documents import PARQUET_MEDIA_TYPE
from pc_cloudmask.catalog.layout import COLLECTION_KEY, GAPS_KEY
from pc_cloudmask.catalog.mirror import check_available
from pc_cloudmask.catalog.search import find_published_items
from pc_cloudmask.catalog.states import NotedState, list_states
from pc_cloudmask.errors import CloudmaskError, ItemError, MachineError, SettingsError, StoreError
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.gaps import (
    LONGEST_DATATAKE,
    Answer,
    AreaSightings,
    CatalogueName,
    Gap,
    GapReport,
    MatchedScene,
    compare_areas,
    find_lacking,
    find_uneven,
    match_sightings,
)
from pc_cloudmask.runs.request import GapsRequest
from pc_cloudmask.scene.query import SceneQuery, format_instant
from pc_cloudmask.scene.scene import drop_baseline
from pc_cloudmask.settings import Area
from pc_cloudmask.source.fields import Item, Sighting, build_image_sighting, find_scene_key, read_sighting
from pc_cloudmask.storage.store import ObjectStore

logger = logging.getLogger(__name__)
#: What our store has recorded about scenes to be tried again, by scene and by item id.
Noted = dict[tuple[str, datetime, str] | str, NotedState]
#: Tiles shown in the name of an area.
_NAMED_TILES = 5
#: Unreadable items shown for one catalogue.
_NAMED_ITEMS = 5


@dataclass(slots=True)
class Catalogue:
    """One of the catalogues compared; ``find`` yields its sightings, and errors for items with too little information.

    ``failures`` say, by area, why it did not answer completely.
    """

    name: CatalogueName
    where: str
    find: Callable[[SceneQuery], Iterator[Sighting | CloudmaskError]]
    failures: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    def list_sightings(self, query: SceneQuery, area: str) -> list[Sighting] | None:
        """Return all that the catalogue has for ``query``; record the failure and return None if it does not answer."""
        found: list[Sighting] = []
        if area in self.failures:
            return None
        logger.info("area %s: asking %s", area, self.name)
        try:
            for each in self.find(query):
                if isinstance(each, Sighting):
                    found.append(each)
                else:
                    self.unread[str(each)] = area
        except (SettingsError, MachineError):
            raise
        except CloudmaskError as error:
            self.failures[area] = str(error)
            return None
        return found

    @property
    def problems(self) -> Iterator[str]:
        """What could not be reached or read, one line each."""
        for text in dict.fromkeys(self.failures.values()):
            areas = [area for area, failure in self.failures.items() if failure == text]
            yield f"{self.name} out of reach (area {', '.join(areas)}): {text}"
        unread = list(self.unread)
        for text in unread[:_NAMED_ITEMS]:
            yield f"{self.name}: not compared: {text}"
        if len(unread) > _NAMED_ITEMS:
            yield f"{self.name}: … and {len(unread) - _NAMED_ITEMS} more items that cannot be compared"


def search_gaps(context: RunContext, request: GapsRequest) -> GapReport:
    """Return who has which scenes of the areas in ``request``; write the table to the store if requested.

    Wrong settings, a fault of this machine, and a store that refuses the table are raised; other failures are reported.
    """
    if request.parquet:
        check_available()
    areas = {_label(name, area): area for name, area in request.read_areas(context.settings).items()}
    first, last = request.read_period(context.now)
    catalogues = _open_catalogues(context)
    asked = [
        _ask_all(catalogues, name, area, begin, last)
        for name, area in areas.items()
        if (begin := first if request.datetime else max(first, area.start)) <= last
    ]
    compared = compare_areas(asked)
    scenes = [each.scene for each in compared]
    ours = next(each for each in catalogues if each.name == CatalogueName.CATALOG)
    noted = {} if ours.failures else _read_noted(context.store, ours)
    report = GapReport(
        first,
        last,
        tuple(areas),
        len(scenes),
        tuple(_list_answers(catalogues, scenes, noted)),
        tuple(_complete(each, noted) for each in compared if each.lacking),
        tuple(find_uneven(scenes)),
        tuple(problem for catalogue in catalogues for problem in catalogue.problems),
    )
    if request.parquet:
        context.store.write_object(GAPS_KEY, encode_gaps(report, context.now), PARQUET_MEDIA_TYPE)
    return report


def _label(name: str, area: Area) -> str:
    """Return the area's name, or a description of an area without one."""
    if not name.startswith("unnamed-"):
        return name
    tiles = ", ".join(area.tiles[:_NAMED_TILES]) + (", …" if len(area.tiles) > _NAMED_TILES else "")
    return tiles or area.bbox or str(area.intersects)


def _ask_all(
    catalogues: Iterable[Catalogue], name: str, area: Area, first: datetime, last: datetime
) -> AreaSightings:
    """Ask every catalogue for one area, then again, by tile, for what it seems to lack."""
    query = area.read_query((first - LONGEST_DATATAKE, last + LONGEST_DATATAKE))
    with ThreadPoolExecutor() as pool:  # each may take long to answer
        answers = pool.map(lambda catalogue: (catalogue, catalogue.list_sightings(query, name)), catalogues)
        seen = {catalogue.name: sightings for catalogue, sightings in answers if sightings is not None}
    inside = frozenset((holder, each.item_id) for holder, sightings in seen.items() for each in sightings)
    if query.bbox or query.intersects:
        scenes = match_sightings(seen)
        for catalogue in catalogues:
            if catalogue.name in seen:
                seen[catalogue.name] += _ask_again(catalogue, scenes, query, name)
    asked = frozenset(catalogue.name for catalogue in catalogues if name not in catalogue.failures)
    return AreaSightings(name, first, last, seen, inside, asked)


def _ask_again(
    catalogue: Catalogue, scenes: Iterable[MatchedScene], query: SceneQuery, area: str
) -> list[Sighting]:
    """Return everything that the catalogue has of the tiles in which it seems to lack a scene."""
    tiles = sorted({scene.tile for scene in scenes if find_lacking(scene, (catalogue.name,))})
    if not tiles:
        return []
    return catalogue.list_sightings(SceneQuery(tiles=tuple(tiles), datetime=query.datetime), area) or []


def _open_catalogues(context: RunContext) -> list[Catalogue]:
    """Return the catalogues in the settings, without asking them yet."""
    settings = context.settings
    source, second = context.source, context.second
    found = [
        Catalogue(CatalogueName.SOURCE, settings.stac_api_url, lambda query: _read(source.find_items(query))),
        Catalogue(CatalogueName.CATALOG, context.store.url, partial(_find_published, context.store)),
    ]
    if context.has_earth_engine:
        find = partial(_list_images, context)
        found.append(Catalogue(CatalogueName.EARTH_ENGINE, settings.earthengine_url, find))
    if second is not None:
        where = str(settings.second_api)
        found.append(Catalogue(CatalogueName.SECOND, where, lambda query: _read(second.find_items(query))))
    return found


def _read(items: Iterable[Item]) -> Iterator[Sighting | CloudmaskError]:
    for item in items:
        try:
            yield read_sighting(item)
        except ItemError as error:
            yield error


def _find_published(store: ObjectStore, query: SceneQuery) -> Iterator[Sighting | CloudmaskError]:
    """Yield the published scenes; a store without a catalog has none."""
    if store.find_object(COLLECTION_KEY) is None:
        return
    broken: dict[str, CloudmaskError] = {}
    yield from _read(published.item for published in find_published_items(store, query, broken=broken))
    yield from broken.values()


def _list_images(context: RunContext, query: SceneQuery) -> Iterator[Sighting]:
    from pc_cloudmask.masking.earth_engine.images import list_images  # noqa: PLC0415 - its client is heavy

    for platform, key in list_images(context.session, query):
        yield build_image_sighting(platform, key)


def _read_noted(store: ObjectStore, ours: Catalogue) -> Noted:
    """Return what is recorded; a store that does not answer is reported as out of reach."""
    noted: Noted = {}
    try:
        for state in list_states(store):
            noted[drop_baseline(state.item_id)] = state
            if (key := find_scene_key(state.item_id)) is not None:
                noted[key] = state
    except StoreError as error:
        ours.failures["states"] = str(error)
    return noted


def _find_noted(noted: Noted, scene: MatchedScene) -> NotedState | None:
    """Return what is recorded about the scene."""
    ids = (drop_baseline(each) for holding in scene.holdings.values() for each in holding.ids)
    return next((noted[each] for each in (scene.key, *ids) if each in noted), None)


def _complete(gap: Gap, noted: Noted) -> Gap:
    """Return ``gap`` with what is recorded about its scene, if our catalog lacks it."""
    state = _find_noted(noted, gap.scene) if CatalogueName.CATALOG in gap.lacking else None
    return gap if state is None else replace(gap, state=_name_state(state), reason=state.reason)


def _name_state(state: NotedState) -> str:
    return "quarantined" if state.is_quarantined else str(state.kind)


_NOT_CONFIGURED = {
    CatalogueName.EARTH_ENGINE: "not asked: no account is configured (CLOUDMASK_EARTHENGINE_PROJECT)",
    CatalogueName.SECOND: "not asked: CLOUDMASK_SECOND_API names none",
}


def _list_answers(
    catalogues: Iterable[Catalogue], scenes: Iterable[MatchedScene], noted: Noted
) -> Iterator[Answer]:
    """Yield what to report about each catalogue, including those that were not asked."""
    opened = {catalogue.name: catalogue for catalogue in catalogues}
    held = Counter(name for scene in scenes for name in scene.holdings)
    states = Counter(_name_state(state) for scene in scenes if (state := _find_noted(noted, scene)))
    for name in CatalogueName:
        catalogue = opened.get(name)
        if catalogue is None:
            yield Answer(name, "", asked=False, why_not=_NOT_CONFIGURED[name])
            continue
        why_not = next(iter(catalogue.failures.values()), "")
        counts = states if name == CatalogueName.CATALOG else {}
        yield Answer(name, catalogue.where, not why_not, held[name], why_not, dict(sorted(counts.items())))


def encode_gaps(report: GapReport, now: datetime) -> bytes:
    """Return the gaps as a Parquet file, whose metadata give its time, its period and whether it is complete."""
    # An optional extra that takes half a second to import: only those who ask for the table pay for it.
    import pyarrow  # noqa: PLC0415
    from pyarrow.parquet import write_table  # noqa: PLC0415

    instant, texts = pyarrow.timestamp("us", tz="UTC"), pyarrow.list_(pyarrow.string())
    fields = {"tile": pyarrow.string(), "platform": pyarrow.string(), "datatake": instant}
    fields |= {"datatake_is": pyarrow.string(), "areas": texts}
    for name in CatalogueName:
        fields |= {f"{name}": pyarrow.string(), f"{name}_ids": texts}
        fields |= {f"{name}_since": instant, f"{name}_since_is": pyarrow.string()}
    fields |= {"state": pyarrow.string(), "reason": pyarrow.string()}
    metadata = {
        "created": format_instant(now),
        "datetime": f"{format_instant(report.first)}/{format_instant(report.last)}",
        "complete": str(report.is_complete).lower(),
        "scenes": str(report.scenes),
        "problems": "\n".join(report.problems),
    }
    schema = pyarrow.schema(list(fields.items()), metadata)
    buffer = io.BytesIO()
    write_table(
        pyarrow.Table.from_pylist(list(map(_build_row, report.gaps)), schema), buffer, compression="zstd"
    )
    return buffer.getvalue()


def _build_row(gap: Gap) -> dict[str, Any]:
    scene = gap.scene
    row: dict[str, Any] = {
        "tile": scene.tile,
        "platform": scene.platform,
        "datatake": scene.start,
        "datatake_is": scene.start_is,
        "areas": list(gap.areas),
        "state": gap.state or None,
        "reason": gap.reason or None,
    }
    for name in CatalogueName:
        holding = scene.holdings.get(name)
        row[name] = "has" if holding else "lacks" if name in gap.lacking else "unknown"
        if holding:
            row |= {f"{name}_ids": list(holding.ids), f"{name}_since": holding.since}
            row[f"{name}_since_is"] = holding.told
    return row
