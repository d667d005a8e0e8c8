"""What the shell offers to complete: names that options know, tiles and items of the catalog.

A completion that fails offers nothing: there is no place for an error on a half-written line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pc_cloudmask.settings import Settings
    from pc_cloudmask.storage.store import ObjectReader

#: Ids that are offered in full; of more, what they begin with.
_MOST_IDS = 200
_ITEM_WORDS = re.compile(r"\d\w{0,5}(?:/[\d-]*)?")
Complete = Callable[[Any, str], list[str]]


def _quietly(find: Callable[[Any, str], Iterable[str]]) -> Complete:
    @wraps(find)
    def complete(ctx: Any, incomplete: str) -> list[str]:
        try:
            return list(find(ctx, incomplete))
        except Exception:
            return []

    return complete


def complete_names(find: Callable[[], Iterable[str]]) -> Complete:
    """Return what completes one of the names that ``find`` gives, or the last of several with commas between."""

    @_quietly
    def complete(ctx: Any, incomplete: str) -> Iterator[str]:  # noqa: ARG001 - as Typer calls it
        given = incomplete.rpartition(",")[0]
        return (f"{given},{name}" if given else name for name in find() if name not in given.split(","))

    return complete


def list_methods() -> list[str]:
    """Name the methods; the table is read only then, as it takes numpy to import."""
    from pc_cloudmask.masking.methods import METHODS

    return list(METHODS)


@_quietly
def complete_area(ctx: Any, incomplete: str) -> list[str]:
    """Complete the name of a watched area."""
    return complete_names(lambda: sorted(_read_settings(ctx).areas))(ctx, incomplete)


@_quietly
def complete_tile(ctx: Any, incomplete: str) -> list[str]:
    """Complete a published tile."""
    return complete_names(lambda: _find_tiles(_open_catalog(ctx)))(ctx, incomplete)


@_quietly
def complete_item(ctx: Any, incomplete: str) -> list[str]:
    """Complete a published item: its id, or tile and day, ``22KFV/2018-12-14``."""
    from pc_cloudmask.catalog.layout import find_day
    from pc_cloudmask.catalog.naming import find_tile

    catalog = _open_catalog(ctx)
    if _ITEM_WORDS.fullmatch(incomplete):
        tile, _, _ = incomplete.partition("/")
        tiles = [name for name in _find_tiles(catalog) if name.startswith(tile)]
        if len(tiles) != 1:
            return tiles
        days = (find_day(item_id) for item_id in _find_ids(catalog, tiles[0], incomplete))
        return [f"{tiles[0]}/{day}" for day in sorted({day for day in days if day})]
    found = _find_ids(catalog, find_tile(incomplete), incomplete)
    return _shorten(sorted(each for each in found if each.startswith(incomplete)), incomplete)


@_quietly
def complete_state(ctx: Any, incomplete: str) -> list[str]:
    """Complete the id of a scene that waits, failed or is provisional."""
    from pc_cloudmask.catalog.layout import is_state_key
    from pc_cloudmask.catalog.states import StateKind
    from pc_cloudmask.storage.stores import open_store

    store = open_store(_find_store(ctx), read_only=True)
    keys = [
        info.key for kind in StateKind for info in store.list_objects(kind.prefix) if is_state_key(info.key)
    ]
    ids = {key.rpartition("/")[2].removesuffix(".json") for key in keys}
    return _shorten(sorted(each for each in ids if each.startswith(incomplete)), incomplete)


def _shorten(ids: list[str], incomplete: str) -> list[str]:
    """Return many ids as what they go on with, up to the next ``_`` that tells some of them apart."""
    if len(ids) <= _MOST_IDS:
        return ids
    end = len(incomplete)
    while len(found := {each[: each.find("_", end) + 1] or each for each in ids}) == 1:
        end = len(found.pop())
    return sorted(found)


def _find_ids(catalog: ObjectReader, tile: str | None, beginning: str) -> list[str]:
    from concurrent.futures import ThreadPoolExecutor

    from pc_cloudmask.catalog.layout import find_day
    from pc_cloudmask.catalog.walk import find_linked_keys
    from pc_cloudmask.scene.query import SceneQuery

    day = find_day(beginning.replace("-", "_"))
    query = SceneQuery(tiles=(tile,) if tile else (), datetime=str(day) if day else None)
    with ThreadPoolExecutor(16) as pool:
        return [keys.item_id for keys in find_linked_keys(catalog, query, pool)]


def _find_tiles(catalog: ObjectReader) -> list[str]:
    from concurrent.futures import ThreadPoolExecutor

    from pc_cloudmask.catalog.walk import find_linked_tiles

    with ThreadPoolExecutor(16) as pool:
        return find_linked_tiles(catalog, pool)


def _open_catalog(ctx: Any) -> ObjectReader:
    from pc_cloudmask.storage.stores import open_reader

    return open_reader(_find_store(ctx))


def _find_store(ctx: Any) -> str:
    return ctx.params.get("store") or _read_settings(ctx).store


def _read_settings(ctx: Any) -> Settings:
    from pc_cloudmask.settings import read_settings

    return read_settings(ctx.find_root().params.get("config"))
