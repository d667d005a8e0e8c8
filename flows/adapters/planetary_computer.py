"""Items from a STAC API such as the Planetary Computer's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from pystac.errors import STACError
from pystac_client import Client, ConformanceClasses
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError

from flows.adapters.hosts import PLANETARY_COMPUTER_HOSTS
from flows.adapters.http_retry import RetryPolicy
from flows.adapters.item_bound import find_most_items
from flows.adapters.item_order import sort_items, sort_stream
from flows.adapters.signatures import unsign_item
from flows.adapters.stac_api_io import BoundedStacApiIO
from flows.errors import SettingsError, SourceRefused, SourceUnavailable
from flows.loopback import LOOPBACK_HOSTS
from flows.ports import Item
from flows.printable import make_printable
from flows.scene.geometry import build_box
from flows.scene.query import (
    Interval,
    SceneQuery,
    format_datetime_interval,
    parse_datetime_interval,
    split_interval,
)
from flows.stac.item_reader import find_property
from flows.stac.source_item import bound_assets

PAGE_ITEMS = 250
"""The Planetary Computer's default, of at most 1000: pages of 5 MB."""
HELD_ITEMS = 4 * PAGE_ITEMS
"""How late an item may arrive and still be put in order."""
IDS_AT_ONCE = 100
DAYS_AT_ONCE = timedelta(days=31)
"""Without a place, the Planetary Computer's database looks at every item on Earth of the interval, and gives
up after thirty seconds."""
_TILE_PROPERTY = "s2:mgrs_tile"
_SORT = [{"field": "properties.datetime", "direction": "asc"}, {"field": "id", "direction": "asc"}]
#: Characters of what an API or a library says that are repeated.
_SHOWN = 200
_TRIPPED = (STACError, ClientTypeError, NotImplementedError, KeyError, TypeError, ValueError, AttributeError)
"""What pystac and pystac-client raise on an answer of another form: they trust what an API sends."""


class PlanetaryComputerSource:
    """Searches one collection of a STAC API.

    ``deadline_s`` is how long a search may go without receiving a page, waiting and retries included.
    It does not run while the caller works on what was found.
    """

    local_root: Path | None = None
    """Nothing local may be read for an item that came from a server."""

    def __init__(
        self, url: str, collection: str, deadline_s: float = 300, *, retry: RetryPolicy | None = None
    ) -> None:
        parts = urlsplit(url)
        self._url = url.rstrip("/")
        self._host = parts.hostname or ""
        self._collection = collection
        self._deadline_s = deadline_s
        self._retry = retry
        self._collection_seen = False
        if parts.scheme != "https" and not self.allow_loopback:
            raise SettingsError(f"CLOUDMASK_STAC_API_URL {self._url}: plain http is for loopback only")

    @property
    def allow_loopback(self) -> bool:
        """Whether assets may be read from loopback: the API is there itself."""
        return self._host in LOOPBACK_HOSTS

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from: the Planetary Computer's and the API's own."""
        return PLANETARY_COMPUTER_HOSTS | {self._host}

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """The matching items, by datetime, then id; each id once; hrefs unsigned.

        Raises:
            SourceUnavailable: no page within the deadline.
            SourceRefused: not a STAC API, an unknown collection, another server's page, pages that
                repeat, do not end or are too large, a refused request.
            SettingsError: a query that contradicts itself.
        """
        api_io = BoundedStacApiIO(self._url, self._deadline_s, self._retry)
        with self._named_errors():
            client = Client.open(self._url, stac_io=api_io)
            self._check_collection(api_io)
            id_groups = _ids_at_once(query.ids)
            asked = query if client.conforms_to(ConformanceClasses.QUERY) else replace(query, tiles=())
            searches = [
                (self._search_parameters(client, query, ids, interval), find_most_items(asked, ids, interval))
                for ids in id_groups
                for interval in _intervals_at_once(query)
            ]
        pages = (page for parameters, most in searches for page in self._read_pages(client, parameters, most))
        items: Iterator[Item] = _keep_tiles(_keep_new(pages), query.tiles)
        items = (self._resolve_hrefs(item) for item in items)
        if len(id_groups) == 1 and client.conforms_to(ConformanceClasses.SORT):
            # A limit is kept without asking for more pages than it needs.
            ordered: Iterable[Item] = sort_stream(items, held=0 if query.limit else HELD_ITEMS)
        else:
            ordered = sort_items(items)
        yield from islice(ordered, query.limit)

    def _read_pages(self, client: Client, parameters: dict[str, Any], most: int) -> Iterator[list[Item]]:
        """The pages of one search, of together no more than ``most`` items."""
        count = 0
        with self._named_errors():
            for page in client.search(**parameters).pages_as_dicts():
                features = page["features"]
                count += len(features)
                if count > most:
                    raise SourceRefused(
                        f"{self._url}: gives more than {most} items, more than Sentinel-2 can have taken "
                        "of what was asked: the API does not end its pages; narrow the search, or try again"
                    )
                # What is no item fails as one without an id, and stops no other.
                yield [item if isinstance(item, dict) else {} for item in features]

    def _resolve_hrefs(self, item: Item) -> Item:
        """``item`` with hrefs that begin with a dot as they are meant: relative to the item's own URL."""
        base = f"{self._url}/collections/{quote(self._collection, safe='')}/items/"
        assets = item.get("assets")
        holders = [*(assets.values() if isinstance(assets, dict) else ()), *_list_links(item)]
        for holder in holders:
            href = holder.get("href") if isinstance(holder, dict) else None
            if isinstance(href, str) and href.startswith(("./", "../")):
                holder["href"] = urljoin(base, href)
        return item

    def _check_collection(self, api_io: BoundedStacApiIO) -> None:
        """That the API has the collection: a search in an unknown one finds nothing and says nothing."""
        if self._collection_seen:
            return
        try:
            api_io.read_json(f"{self._url}/collections/{quote(self._collection, safe='')}")
        except APIError as error:
            if error.status_code != 404:
                raise
            raise SourceRefused(
                f"{self._url} has no collection {self._collection!r}; check CLOUDMASK_COLLECTION"
            ) from error
        self._collection_seen = True

    def _search_parameters(
        self, client: Client, query: SceneQuery, ids: tuple[str, ...] | None, interval: Interval | None
    ) -> dict[str, Any]:
        """Keywords of ``Client.search`` for what ``query`` has of ``ids`` in ``interval``."""
        if query.bbox and query.intersects:
            raise SettingsError("a query has a bbox or a geometry that it intersects, not both")
        parameters: dict[str, Any] = {
            "method": _choose_method(client),
            "collections": [self._collection],
            # One more than wanted tells whether the last one shares its instant with a next one.
            "limit": min(PAGE_ITEMS, (query.limit or PAGE_ITEMS) + 1),
            "ids": ids,
            "bbox": query.bbox,
            "intersects": query.intersects,
        }
        if query.bbox and query.bbox[0] > query.bbox[2]:
            # The Planetary Computer's database takes such a box for its complement (stac-utils/pgstac#428).
            parameters |= {"bbox": None, "intersects": build_box(*query.bbox)}
        if interval:
            parameters["datetime"] = format_datetime_interval(interval)
        if query.tiles and client.conforms_to(ConformanceClasses.QUERY):
            parameters["query"] = {_TILE_PROPERTY: {"in": list(query.tiles)}}
        if client.conforms_to(ConformanceClasses.SORT):
            parameters["sortby"] = _SORT
        return parameters

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What pystac and pystac-client raise, as our own errors."""
        try:
            yield
        except APIError as error:
            status = getattr(error, "status_code", None)
            text = f"{self._url}: HTTP {status}: {make_printable(error, _SHOWN)}"
            if status in {401, 403}:
                text += "; the API wants credentials"
            raise (SourceUnavailable if status == 408 else SourceRefused)(text) from error
        except _TRIPPED as error:
            problem = make_printable(f"{type(error).__name__}: {error}", _SHOWN)
            raise SourceRefused(f"{self._url}: the answer is not a STAC API's: {problem}") from error


def _list_links(item: Item) -> list[Any]:
    links = item.get("links")
    return links if isinstance(links, list) else []


def _ids_at_once(ids: tuple[str, ...]) -> list[tuple[str, ...] | None]:
    """``ids`` in groups that one request can carry; one open search without ids."""
    return [ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE)] or [None]


def _intervals_at_once(query: SceneQuery) -> list[Interval | None]:
    """The query's interval, in parts that can be searched for a tile in time; None where it has none."""
    if query.datetime is None:
        return [None]
    interval = parse_datetime_interval(query.datetime)
    if query.bbox or query.intersects or query.ids:
        return [interval]
    return list(split_interval(interval, DAYS_AT_ONCE))


def _choose_method(client: Client) -> str:
    """POST, unless the API says that it searches through GET alone."""
    methods = {link.extra_fields.get("method") or "GET" for link in client.get_links("search")}
    return "GET" if methods == {"GET"} else "POST"


def _keep_new(pages: Iterable[list[Item]]) -> Iterator[Item]:
    """Items of ``pages`` without signatures, each id once.

    Raises:
        SourceRefused: a page without any new item, which a broken paging link repeats for ever.
    """
    seen: set[str] = set()
    for page in pages:
        new = [item for item in page if str(item.get("id")) not in seen]
        if not new:
            raise SourceRefused("the STAC API repeats its pages; try again, or narrow the search")
        for item in new:
            if str(item.get("id")) not in seen:
                seen.add(str(item.get("id")))
                yield unsign_item(bound_assets(item))


def _keep_tiles(items: Iterable[Item], tiles: tuple[str, ...]) -> Iterator[Item]:
    """Items of ``tiles``: the query extension may be missing, or be ignored."""
    for item in items:
        if not tiles or find_property(item, _TILE_PROPERTY) in (*tiles, None):
            yield item
