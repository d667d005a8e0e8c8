"""Find items by less than their id: by the beginning of it, or by tile and day."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, timedelta

from pc_cloudmask.catalog.layout import ItemKeys, find_day
from pc_cloudmask.catalog.walk import find_linked_keys, read_linked
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.scene.scene import TILE_FORM, drop_baseline, parse_item_id
from pc_cloudmask.source.selection import find_datetime
from pc_cloudmask.storage.store import ObjectReader

#: Catalogs read in parallel.
_READERS = 16
#: Candidates that an error message lists.
_SHOWN = 5
_TILE, _DAY = r"[Tt]?(?P<tile>\d\d[A-Za-z]{3})", r"(?P<day>\d{4}-\d\d-\d\d|\d{8})"
_TILE_AND_DAY = re.compile(rf"{_TILE}[ /,@_-]+{_DAY}", re.ASCII)
_ONE_TILE, _ONE_DAY = re.compile(_TILE, re.ASCII), re.compile(_DAY, re.ASCII)
_TILE_IN_ID = re.compile(r"_T([0-9]{2}[A-Z]{3})(?:_|$)")
#: The baseline in one of ESA's ids, which may end right after it.
_BASELINE = re.compile(r"(?<=^S2[A-Z]_MSIL2A_\d{8}T\d{6})_N\d{4}(?=_|$)", re.ASCII)


class AmbiguousItem(SettingsError):
    """Raised where the name of an item matches several."""


def join_tiles_and_days(words: Iterable[str]) -> list[str]:
    """Return ``words`` with each tile and the day that follows it joined into one name, ``22KFV 2018-12-14``."""
    names: list[str] = []
    for word in words:
        if names and _ONE_DAY.fullmatch(word) and _ONE_TILE.fullmatch(names[-1]):
            names[-1] += f" {word}"
        else:
            names.append(word)
    return names


def parse_tile_and_day(text: str) -> tuple[str, date] | None:
    """Return tile and day of a text such as ``22KFV 2018-12-14`` or ``22KFV/2018-12-14``; None for any other text."""
    named = _TILE_AND_DAY.fullmatch(text.strip())
    if named is None or not TILE_FORM.fullmatch(named["tile"].upper()):
        return None
    with suppress(ValueError):
        return named["tile"].upper(), date.fromisoformat(named["day"])
    return None


def match_name(text: str, item_ids: Iterable[str], option: str = "ITEM") -> list[str]:
    """Return those of ``item_ids`` that ``text`` names: by the id, the beginning of it, or tile and day.

    An id given in full matches only itself, even if other ids begin with it.

    Raises:
        SettingsError: no item's id can begin with this text.
    """
    if place := parse_tile_and_day(text):
        return sorted(each for each in item_ids if (find_tile(each), find_day(each)) == place)
    beginning = _read_beginning(text, option)
    found = sorted(each for each in item_ids if drop_baseline(each).startswith(beginning))
    return [text] if text in found else [each for each in found if drop_baseline(each) == beginning] or found


def find_named_keys(store: ObjectReader, text: str, option: str = "ITEM") -> ItemKeys:
    """Return the keys of the one linked item that ``text`` names; see ``match_name``.

    If the text contains a tile or a day, only the catalogs concerned are read. An item is read only if midnight may lie
    between the instant in its id, the start of its datatake, and its own.

    Raises:
        AmbiguousItem: there are several.
        SettingsError: no item's id can begin with this text, or the store holds no catalog.
        StoreRefused: the catalogs link no such item.
        SourceRefused, StoreUnavailable: a catalog is broken, or the store does not answer.
    """
    place = parse_tile_and_day(text)
    beginning = text if place else _read_beginning(text, option)
    tile, day = place or (find_tile(beginning), find_day(beginning))
    query = SceneQuery(tiles=(tile,) if tile else (), datetime=None if day is None else _build_interval(day))
    with ThreadPoolExecutor(_READERS) as pool:
        linked = {keys.item_id: keys for keys in find_linked_keys(store, query, pool)}
    if place:
        names = sorted(each for each, keys in linked.items() if _was_taken_on(store, keys, place[1]))
    else:
        names = match_name(beginning, linked, option)
    if not names:
        raise StoreRefused(
            f"{store.url}: {text:.128} is not published there: run cloudmask ingest --ids first"
            if not place
            else f"{store.url}: nothing of {text} is published there: cloudmask ls --tile {tile} lists what is"
        )
    return linked[choose_same(names, text, option)[0]]


def choose_same(names: Sequence[str], text: str, option: str = "ITEM") -> Sequence[str]:
    """Return ``names`` if they all name one product, with and without the baseline.

    Raises:
        AmbiguousItem: they name several products.
    """
    if len(set(map(drop_baseline, names))) == 1:
        return names
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise AmbiguousItem(
        f"{option} {text!r:.100} may be any of {len(names)}: {', '.join(names[:_SHOWN])}{more}: write more of the id"
    )


def find_tile(item_id: str) -> str | None:
    """Return the tile in an id, or in the beginning of one; None if there is none."""
    found = _TILE_IN_ID.search(item_id)
    return found[1] if found and TILE_FORM.fullmatch(found[1]) else None


def _read_beginning(text: str, option: str) -> str:
    try:
        return drop_baseline(_BASELINE.sub("", parse_item_id(text)))
    except ValueError as error:
        raise SettingsError(f"{option} {text!r:.100}: {error}") from error


def _build_interval(day: date) -> str | None:
    """Return the day extended by one day on each side, within the range of the calendar."""
    with suppress(OverflowError):
        return f"{day - timedelta(days=1)}/{day + timedelta(days=1)}"
    return None


def _was_taken_on(store: ObjectReader, keys: ItemKeys, day: date) -> bool:
    if find_day(keys.item_id) == day:
        return True
    moment = find_datetime(read_linked(store, keys.item))
    return moment is not None and moment.date() == day
