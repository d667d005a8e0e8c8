"""The options that several commands share, how their values are read, and their shell completion.

A completion that fails offers nothing: a half-written line has no place for an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from pc_cloudmask.settings import Settings
    from pc_cloudmask.storage.store import ObjectReader

#: The most ids that are offered in full; if there are more, their prefixes are offered.
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
    """Return a completion for the names that ``find`` gives, or for the last of several separated by commas."""

    @_quietly
    def complete(ctx: Any, incomplete: str) -> Iterator[str]:  # noqa: ARG001 - as Typer calls it
        given = incomplete.rpartition(",")[0]
        return (f"{given},{name}" if given else name for name in find() if name not in given.split(","))

    return complete


def list_methods() -> list[str]:
    """Return the names of the methods; the table is only read now, since its import takes numpy."""
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
    return _shorten(sorted(each for each in found if each.startswith(incomplete)), incomplete)


@_quietly
def complete_state(ctx: Any, incomplete: str) -> list[str]:
    """Complete the id of a scene that is waiting, failed or provisional."""
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
    """Return many ids as their next parts, up to the next ``_`` that distinguishes some of them."""
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


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=31)


def split_commas(values: list[str] | None) -> list[str]:
    """Return the values of an option that may be repeated, and may have several values separated by commas.

    An empty value stays, so that ``--tile ""`` is refused instead of meaning all tiles.
    """
    return [part.strip() for value in values or () for part in value.split(",")]


def join_names(values: list[str] | None) -> str | None:
    """Return the values of an option that may be repeated as one text; None if it was not given."""
    return ", ".join(values) if values else None


def read_period(once: bool, every: str | None) -> timedelta | None:
    """Return the time from one run to the next; None for a single run.

    Raises:
        SettingsError: both are given, or ``every`` is not a duration.
    """
    if once and every is not None:
        raise SettingsError("--once and --every exclude each other: give one of them")
    return None if once else parse_duration(every or "1h")


def parse_duration(text: str) -> timedelta:
    """Return the duration that ``90s``, ``30m``, ``1h`` or ``1.5d`` names.

    Raises:
        SettingsError: it names none, or one shorter than a second or longer than 31 days.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    try:
        length = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None
    except OverflowError:
        length = None
    if length is None or not SHORTEST <= length <= LONGEST:
        raise SettingsError(f"--every {text!r:.40}: write 30m, 1h or 1d; at least 1s, at most 31d")
    return length


#: Endings of the files that charts are written to.
CHARTS = (".png", ".svg")


def check_out(out: Path, option: str = "--out", endings: Sequence[str] = (".png",)) -> Path:
    """Return ``out``, a path to which a picture can be written.

    Raises:
        SettingsError: its name has none of the ``endings``, or its folder does not exist.
    """
    if out.suffix.lower() not in endings:
        raise SettingsError(f"{option} {out}: name a file that ends in {' or '.join(endings)}")
    if not out.parent.is_dir():
        raise SettingsError(f"{option} {out}: {out.parent} is no folder: make it first")
    return out


def write_out(out: Path, picture: bytes, option: str = "--out") -> None:
    """Write a picture.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        out.write_bytes(picture)
    except OSError as error:
        raise SettingsError(f"{option} {out}: cannot be written: {error.strerror or error}") from error


def read_item_name(words: list[str]) -> str:
    """Return the name of one item, which may be tile and day in two words.

    Raises:
        SettingsError: there are several.
    """
    from pc_cloudmask.catalog.layout import join_tiles_and_days

    names = join_tiles_and_days(words)
    if len(names) > 1:
        raise SettingsError(f"ITEM: one at a time, not {len(names)}: {' '.join(names)!r:.100}")
    return names[0]


def _option(metavar: str, text: str, **more: Any) -> Any:
    return typer.Option(metavar=metavar, help=text, **more)


def _several(metavar: str, text: str, **more: Any) -> Any:
    return _option(metavar, text, callback=split_commas, **more)


Text = str | None
Texts = list[str] | None
#: Which scenes.
BboxOption = Annotated[Text, _option("W,S,E,N", "A box, in degrees; W > E crosses 180°.")]
IntersectsOption = Annotated[Path | None, _option("FILE", "A GeoJSON geometry in place of a box.")]
GeometryOption = Annotated[
    Text,
    _option("FILE|GEOJSON", "An area: a GeoJSON geometry, feature or collection, in a file or as it stands."),
]
TileOption = Annotated[Texts, _several("TILE,…", "MGRS tiles, such as 22KFV.", autocompletion=complete_tile)]
DatetimeOption = Annotated[Text, _option("INTERVAL", "2018-12, 2018-12-14/2019-01-31, 2018-12-14/..")]
IdsOption = Annotated[Texts, _several("ID,…", "Ids of items.")]
ItemsOption = Annotated[
    Text, _option("FILE|URL", "An ItemCollection, folder or static catalog to take items from, not the API.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Publish at most this many scenes in a run.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Publish again what is published already.")]
#: How masks are made, and where they go.
MethodOption = Annotated[
    Texts,
    _option(
        "METHOD,…",
        "How masks are made: s2cloudless, cloud-score-plus, csmask, omnicloudmask; several: the best first.",
        callback=split_commas,
        autocompletion=complete_names(list_methods),
    ),
]
ComputeOption = Annotated[
    Text,
    typer.Option(
        help="Where Earth Engine's inputs become a mask: local (here) or server (there).",
        autocompletion=complete_names(lambda: ("local", "server")),
    ),
]
KeepInputsOption = Annotated[
    bool | None, typer.Option("--keep-inputs", help="Publish the cloud probability too.")
]
StoreOption = Annotated[Text, _option("URL", "Where the catalog is: a directory or s3://bucket/prefix.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
#: What is watched, and when.
OnceOption = Annotated[bool, typer.Option("--once", help="Run once, for cron and the like.")]
EveryOption = Annotated[Text, _option("TIME", "Run every 30m, 1h, 1d …, until interrupted; default: 1h.")]
AreaOption = Annotated[
    Texts,
    _several("NAME,…", "Areas of the settings file; default: all of them.", autocompletion=complete_area),
]
SinceOption = Annotated[Text, _option("DAY", "Watch scenes taken since 2018, 2018-12 or 2018-12-14.")]
LookBackOption = Annotated[
    Texts,
    _several(
        "WINDOW,…",
        "How far to look back: hot, recent, full; default: as far as is due.",
        autocompletion=complete_names(lambda: ("hot", "recent", "full")),
    ),
]
ItemArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="ITEM",
        help="A published item: its id, a beginning of it that no other has, or tile and day: 22KFV 2018-12-14.",
        autocompletion=complete_item,
    ),
]
#: A store that is only read, and the source files of its items.
CatalogOption = Annotated[
    Text, _option("URL", "The catalog: a directory, s3://bucket/prefix or a catalog's https URL.")
]
FilesOption = Annotated[
    Path | None, _option("DIR", "A folder, besides the store, that local bands may be in.")
]
