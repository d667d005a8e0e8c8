"""Which scenes are judged, and where their items come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pystac

from pc_cloudmask.catalog.naming import AmbiguousItem, join_tiles_and_days, parse_tile_and_day
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.evaluate.masks import GivenItems, Subject
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.fields import Item, SceneSource
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.source.item_files import ItemFilesSource
from pc_cloudmask.viewing.library import find_item, find_items


@dataclass(frozen=True, slots=True)
class SceneChoice:
    """Which scenes: ``named`` are ids or files of items; the rest chooses among all.

    ``items`` is what ``--items`` names, ``store`` a catalog of published masks, ``files`` a folder besides it that
    local bands may be in.
    """

    named: Sequence[str] = ()
    tiles: Sequence[str] = ()
    datetime: str | None = None
    items: str | None = None
    store: str | None = None
    files: Path | None = None


def find_subjects(choice: SceneChoice, settings: Settings, *, needs_source: bool) -> dict[str, Subject]:
    """Return the scenes by id, in order of time.

    An item is that of ``items``, else the published one, which has the source's assets; an id that is not published
    is looked up in the source API where ``needs_source`` says that masks are to be made.

    Raises:
        SettingsError: nothing is chosen, or there is no such item.
        StoreRefused: it is not published.
    """
    paths = [name for name in choice.named if name.endswith(".json") and Path(name).is_file()]
    ids = join_tiles_and_days(name for name in choice.named if name not in paths)
    files = [name for name in ids if "://" not in name and parse_tile_and_day(name) is None]
    if missing := [name for name in files if "/" in name or name.endswith(".json")]:
        raise SettingsError(f"ITEM {missing[0]}: no such file")
    subjects: dict[str, Subject] = {}
    for path in paths:
        source = ItemFilesSource(path, choice.files)
        subjects |= _read_source(source, SceneQuery(), choice)
    if choice.items is not None:
        if ids or not paths:
            query = build_query(ids=ids, tiles=choice.tiles, datetime=choice.datetime)
            source = ItemFilesSource(choice.items, choice.files)
            subjects |= _check_ids(ids, _read_source(source, query, choice))
    elif ids:
        for item_id in ids:
            subjects |= _find_one(item_id, choice, settings, needs_source=needs_source)
    elif not paths:
        subjects = {
            item.id: _build_published(item, choice)
            for item in find_items(choice.tiles, datetime=choice.datetime, store=choice.store)
        }
    return subjects


def _read_source(source: SceneSource, query: SceneQuery, choice: SceneChoice) -> dict[str, Subject]:
    """Return what matches, each with its published item if the catalog has it."""
    found = {}
    for item in source.find_items(query):
        scene = read_scene(item)
        found[scene.id] = Subject(item, source, _find_published(scene.id, choice))
    return found


def _find_published(item_id: str, choice: SceneChoice) -> pystac.Item | None:
    try:
        return find_item(item_id, store=choice.store)
    except (SettingsError, StoreRefused):  # no such item, or no catalog yet
        return None


def _check_ids(ids: Sequence[str], found: dict[str, Subject]) -> dict[str, Subject]:
    if ids and not found:
        raise SettingsError(f"no scene matches: {', '.join(ids)}")
    return found


def _find_one(
    item_id: str, choice: SceneChoice, settings: Settings, *, needs_source: bool
) -> dict[str, Subject]:
    try:
        item = find_item(item_id, store=choice.store)
        return {item.id: _build_published(item, choice)}
    except (SettingsError, StoreRefused) as error:
        if not needs_source or isinstance(error, AmbiguousItem):
            raise
    source = RunContext(settings).source
    return _check_ids([item_id], _read_source(source, build_query(ids=[item_id]), choice))


def _build_published(item: pystac.Item, choice: SceneChoice) -> Subject:
    """Return the subject of a published item, whose local assets lie below its catalog or ``files``."""
    document: Item = item.to_dict(include_self_link=False, transform_hrefs=False)
    root = item.get_root_link()
    catalog = (root.get_absolute_href() if root is not None else None) or ""
    return Subject(document, GivenItems.of_catalog([document], catalog, choice.files), item)
