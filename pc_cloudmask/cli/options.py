"""The options that several commands share, how their values are read, and their shell completion.

A completion that fails offers nothing: a half-written line has no place for an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from pc_cloudmask.scene.query import SceneQuery
    from pc_cloudmask.settings import Settings
    from pc_cloudmask.storage.store import ObjectReader

_Path = TypeVar("_Path", bound=Path | None)
#: The most ids that are offered in full; if there are more, their prefixes are offered.
_MOST_IDS = 200
_ITEM_WORDS = re.compile(r"\d\w{0,5}(?:/[\d-]*)?")
_DURATION = re.compile(r"0*(\d{1,7}(?:\.\d+)?)\s*([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
#: Endings of the files that charts are written to.
CHARTS = (".png", ".svg")


def _quietly(find: Callable[[Any, str], Iterable[str]]) -> Callable[[Any, str], list[str]]:
    @wraps(find)
    def complete(ctx: Any, incomplete: str) -> list[str]:
        try:
            return list(find(ctx, incomplete))
        except Exception:
            return []

    return complete


def complete_names(find: Callable[[Any], Iterable[str]]) -> Callable[[Any, str], list[str]]:
    """Return a completion for the names that ``find`` gives, or for the last of several separated by commas."""

    @_quietly
    def complete(ctx: Any, incomplete: str) -> Iterator[str]:
        given = incomplete.rpartition(",")[0]
        return (f"{given},{name}" if given else name for name in find(ctx) if name not in given.split(","))

    return complete


def _list_methods(_: Any) -> Iterable[str]:
    from pc_cloudmask.masking.methods import METHODS  # takes numpy

    return METHODS


@_quietly
def complete_item(ctx: Any, incomplete: str) -> list[str]:
    """Complete a published item: its id, or tile and day, ``22KFV/2018-12-14``."""
    from pc_cloudmask.catalog.layout import find_day, find_tile

    catalog = _open_catalog(ctx)
    if _ITEM_WORDS.fullmatch(incomplete):
        tile, _, _ = incomplete.partition("/")
        tiles = [name for name in _find_tiles(catalog) if name.startswith(tile)]
        if len(tiles) != 1:
            return tiles
        days = (find_day(item_id) for item_id in _find_ids(catalog, tiles[0], incomplete))
        return [f"{tiles[0]}/{day}" for day in sorted({day for day in days if day})]
    found = _find_ids(catalog, find_tile(incomplete), incomplete)
    return _shorten(found, incomplete)


@_quietly
def complete_state(ctx: Any, incomplete: str) -> list[str]:
    """Complete the id of a scene that is waiting, failed or provisional."""
    from pc_cloudmask.catalog.layout import is_state_key
    from pc_cloudmask.catalog.states import StateKind
    from pc_cloudmask.storage.stores import open_store

    store = open_store(_find_store(ctx), read_only=True)
    keys = (info.key for kind in StateKind for info in store.list_objects(kind.prefix))
    ids = {key.rpartition("/")[2].removesuffix(".json") for key in keys if is_state_key(key)}
    return _shorten(ids, incomplete)


def _shorten(ids: Iterable[str], incomplete: str) -> list[str]:
    """Return the ids that go on from ``incomplete``; of many the next parts, up to a ``_`` that tells some apart."""
    found = {each for each in ids if each.startswith(incomplete)}
    if len(found) > _MOST_IDS:
        all_ids, end = found, len(incomplete)
        while len(found := {each[: each.find("_", end) + 1] or each for each in all_ids}) == 1:
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


def split_commas(values: list[str] | None) -> list[str]:
    """Return the values of an option that may be repeated, and may have several values separated by commas.

    An empty value stays, so that ``--tile ""`` is refused instead of meaning all tiles.
    """
    return [part.strip() for value in values or () for part in value.split(",")]


def join_names(values: list[str] | None) -> str | None:
    """Return the values of an option that may be repeated as one text; None if it was not given."""
    return ", ".join(values) if values else None


def read_period(once: bool, every: str | None) -> timedelta | None:
    """Return the time from one run to the next, ``90s``, ``30m``, ``1h`` or ``1.5d``; None for a single run."""
    if once and every is not None:
        raise SettingsError("--once and --every exclude each other: give one of them")
    if once:
        return None
    text = every or "1h"
    match = _DURATION.fullmatch(text.strip().lower())
    period = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else timedelta()
    if not timedelta(seconds=1) <= period <= timedelta(days=31):
        raise SettingsError(f"--every {text!r:.40}: write 30m, 1h or 1d; at least 1s, at most 31d")
    return period


def check_out(out: _Path, option: str = "--out", endings: Sequence[str] = (".png",)) -> _Path:
    """Return ``out``, a path to which a picture can be written, or None; raise for any other path."""
    if out is not None and out.suffix.lower() not in endings:
        raise SettingsError(f"{option} {out}: name a file that ends in {' or '.join(endings)}")
    if out is not None and not out.parent.is_dir():
        raise SettingsError(f"{option} {out}: {out.parent} is no folder: make it first")
    return out


def write_out(out: Path, picture: bytes, option: str = "--out") -> None:
    """Write a picture."""
    try:
        out.write_bytes(picture)
    except OSError as error:
        raise SettingsError(f"{option} {out}: cannot be written: {error.strerror or error}") from error


def read_query(
    tile: list[str] | None, datetime: str | None, bbox: str | None = None, intersects: str | None = None
) -> SceneQuery:
    """Return the query that these options describe."""
    from pc_cloudmask.scene.query import build_query

    if intersects is None:
        return build_query(bbox=bbox, tiles=tile or (), datetime=datetime)
    from pc_cloudmask.viewing.library import read_area

    return build_query(bbox=bbox, intersects=read_area(intersects), tiles=tile or (), datetime=datetime)


def read_item_name(words: list[str]) -> str:
    """Return the name of one item, which may be tile and day in two words."""
    from pc_cloudmask.catalog.layout import join_tiles_and_days

    names = join_tiles_and_days(words)
    if len(names) > 1:
        raise SettingsError(f"ITEM: one at a time, not {len(names)}: {' '.join(names)!r:.100}")
    return names[0]


def flag(names: str, text: str) -> Any:
    """Return an option without a value."""
    return typer.Option(names, help=text)


def value(metavar: str, text: str, *names: str, **more: Any) -> Any:
    """Return an option with a value."""
    return typer.Option(*names, metavar=metavar, help=text, **more)


def values(metavar: str, text: str, *names: str, **more: Any) -> Any:
    """Return an option that may be repeated, and may have several values separated by commas."""
    return value(metavar, text, *names, callback=split_commas, **more)


def methods(text: str) -> Any:
    """Return an option for names of methods."""
    return values("METHOD,…", text, "--method", autocompletion=complete_names(_list_methods))


#: Which scenes.
Bbox = Annotated[str | None, value("W,S,E,N", "A box, in degrees; W > E crosses 180°.")]
Intersects = Annotated[Path | None, value("FILE", "A GeoJSON geometry in place of a box.")]
Tile = Annotated[
    list[str] | None,
    values(
        "TILE,…",
        "MGRS tiles, such as 22KFV.",
        autocompletion=complete_names(lambda ctx: _find_tiles(_open_catalog(ctx))),
    ),
]
Datetime = Annotated[str | None, value("INTERVAL", "2018-12, 2018-12-14/2019-01-31, 2018-12-14/..")]
Items = Annotated[
    str | None,
    value("FILE|URL", "An ItemCollection, folder or static catalog to take items from, not the API."),
]
Area = Annotated[
    list[str] | None,
    values(
        "NAME,…",
        "Areas of the settings file; default: all of them.",
        autocompletion=complete_names(lambda ctx: sorted(_read_settings(ctx).areas)),
    ),
]
ItemWords = Annotated[
    list[str],
    typer.Argument(
        metavar="ITEM",
        help="A published item: its id, a beginning of it that no other has, or tile and day: 22KFV 2018-12-14.",
        autocompletion=complete_item,
    ),
]
#: How masks are made, and where they go.
Method = Annotated[
    list[str] | None,
    methods(
        "How masks are made: s2cloudless, cloud-score-plus, csmask, omnicloudmask; several: the best first."
    ),
]
Store = Annotated[str | None, value("URL", "Where the catalog is: a directory or s3://bucket/prefix.")]
#: A store that is only read, and the source files of its items.
Catalog = Annotated[
    str | None, value("URL", "The catalog: a directory, s3://bucket/prefix or a catalog's https URL.")
]
Files = Annotated[Path | None, value("DIR", "A folder, besides the store, that local bands may be in.")]
