"""Items from a STAC API such as the Planetary Computer's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from math import ceil, cos, radians
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from pystac import Link
from pystac.errors import STACError
from pystac_client import Client, ConformanceClasses
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests import Request

from pc_cloudmask.contact import Service, find_origin
from pc_cloudmask.errors import SettingsError, SourceDenied, SourceMistaken, SourceRefused, SourceUnavailable
from pc_cloudmask.scene.geometry import build_box, build_shape
from pc_cloudmask.scene.query import (
    Interval,
    SceneQuery,
    format_datetime_interval,
    parse_datetime_interval,
    split_interval,
)
from pc_cloudmask.source.fields import Item, find_property
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS, find_holders, is_relative, unsign_item
from pc_cloudmask.source.item_files import parse_json
from pc_cloudmask.source.paging import PAGE_ITEMS, NoSuchPage, read_all_pages
from pc_cloudmask.source.selection import sort_items, sort_stream
from pc_cloudmask.text import LOOPBACK_HOSTS, make_printable, unsigned_href
from pc_cloudmask.web import Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy

#: A page of 250 Sentinel-2 items has about 5 MB.
MAX_PAGE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ApiForm:
    """How to query a STAC API: the settings that name it, and the property of its items that gives the tile."""

    url_setting: str = "CLOUDMASK_STAC_API_URL"
    collection_setting: str = "CLOUDMASK_COLLECTION"
    tile_property: str = "s2:mgrs_tile"

    def spell_tiles(self, tiles: Iterable[str]) -> list[str]:
        """Return the values that the property may have for ``tiles``: some APIs write zone 1 without its zero."""
        if self.tile_property == TILE_PROPERTY:
            return list(tiles)
        return [f"MGRS-{form}" for tile in tiles for form in dict.fromkeys((tile, tile.lstrip("0")))]


class BoundedStacApiIO(StacApiIO):
    """Requests to one origin, each with a deadline, retries and a limit on its body.

    An API supplies the URLs of its next pages; they are followed only on the API's own scheme, host and port.
    """

    def __init__(
        self,
        url: str,
        deadline_s: float,
        retry: RetryPolicy | None = None,
        url_setting: str = ApiForm().url_setting,
    ) -> None:
        super().__init__()
        self._hint = f"check {url_setting}"
        self._origin = find_origin(url)
        self._deadline_s = deadline_s
        self._http = HttpClient(retry or RetryPolicy(attempts=20), service=Service("STAC API", url_setting))

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Return the text of a JSON answer.

        Raises:
            SourceUnavailable: there was none within the deadline.
            SourceRefused: another origin, too large, not JSON, or not UTF-8.
            APIError: any other status than success, for pystac-client to interpret.
        """
        method = (method or "GET").upper()
        shown = unsigned_href(href)
        if find_origin(href) != self._origin:
            raise SourceRefused(f"the STAC API leads to {shown}, which is another server: not followed")
        body, query = (parameters, None) if method == "POST" else (None, parameters)
        request = Request(method, href, headers={"Accept": "application/json", **(headers or {})}, json=body)
        request.params = query or {}
        try:
            answer = self._http.request(request, Deadline(self._deadline_s), MAX_PAGE_BYTES)
        except NoAnswer as error:
            # The Planetary Computer's own time-out of 30 s, when it is busy or a search is large.
            hint = "; ask for a shorter time or a smaller area" if "HTTP 504" in str(error) else ""
            raise SourceUnavailable(f"STAC API {error}{hint}") from error
        except RefusedAnswer as error:
            raise SourceRefused(f"STAC API {error}") from error
        if answer.status != 200:
            failure = APIError(answer.body[:200].decode("utf-8", "replace"))
            failure.status_code = answer.status
            raise failure
        try:
            return answer.body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceRefused(f"STAC API {shown}: the answer is not UTF-8") from error

    def json_loads(self, txt: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Return the object in a JSON text; orjson rejects nesting beyond 1024 levels.

        Raises:
            SourceRefused: it is not the JSON object of a STAC API.
        """
        try:
            document = parse_json(txt)
        except ValueError as error:
            looks = "a web page" if txt.lstrip()[:1] == "<" else f"not JSON ({error})"
            raise SourceMistaken(f"STAC API: the answer is {looks}: {self._hint}") from error
        if isinstance(document, dict) and document.get("type") == "Catalog":
            _check_landing_page(document, self._hint)
        elif not isinstance(document, dict) or not (
            "features" in document or document.get("type") == "Collection"
        ):
            # An error with status 200 would look like an empty page.
            raise SourceMistaken(f"STAC API: the answer is JSON but not STAC: {self._hint}")
        if not isinstance(document.get("features", []), list):
            raise SourceRefused("STAC API: a page holds no list of items")
        if not isinstance(document.get("links") or [], list):
            raise SourceRefused("STAC API: a page holds no list of links")
        return document

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield every linked page, including empty ones, at which pystac-client itself would stop.

        Raises:
            NoSuchPage: a link leads to a page that does not exist.
        """
        page = self.read_json(url, method=method, parameters=parameters)
        while True:
            yield page
            following = next((link for link in page.get("links") or [] if link["rel"] == "next"), None)
            if following is None:
                return
            try:
                page = self.read_json(Link.from_dict(following), parameters=parameters)
            except APIError as error:
                if error.status_code not in NOWHERE:
                    raise
                raise NoSuchPage(f"HTTP {error.status_code}") from error


def _check_landing_page(document: dict[str, Any], hint: str) -> None:
    """Check that a catalog is the landing page of an API with item search."""
    conforms_to = document.get("conformsTo")
    if not isinstance(conforms_to, list) or not any("/item-search" in str(uri) for uri in conforms_to):
        raise SourceMistaken(
            f"STAC API: a catalog, but not of an API that searches items: {hint}; "
            "a static catalog is read with --items"
        )


#: Limit for any search: a year of 5,000 tiles, 4,000 pages; their ids take a tenth of a gigabyte.
MAX_ITEMS = 1_000_000
#: Three satellites pass a tile near a pole some six times a day; some products are issued twice.
ITEMS_OF_A_TILE_AND_DAY = 10
ITEMS_OF_AN_ID = 10
#: Four pages: an API that returns a little more than requested is not malicious.
SLACK = 1000
_TILES_ON_EARTH = 60_000
#: Days assumed for an interval with an open end: forty years of Sentinel-2.
_OPEN_DAYS = 15_000
_KM_OF_A_DEGREE, _KM_OF_A_TILE = 111.0, 100.0


def find_most_items(query: SceneQuery, ids: tuple[str, ...] | None, interval: Interval | None) -> int:
    """Return the largest plausible number of items of ``query`` with ``ids`` in ``interval``."""
    if ids:
        return SLACK + ITEMS_OF_AN_ID * len(ids)
    tiles = _TILES_ON_EARTH
    if query.tiles:
        tiles = len(query.tiles)
    elif query.bbox or query.intersects:
        tiles = min(tiles, _count_tiles(*(query.bbox or build_shape(query.intersects).bounds)))
    return min(MAX_ITEMS, SLACK + ITEMS_OF_A_TILE_AND_DAY * tiles * _count_days(interval))


def _count_days(interval: Interval | None) -> int:
    start, end = interval or (None, None)
    return _OPEN_DAYS if start is None or end is None else (end - start).days + 2


def _count_tiles(west: float, south: float, east: float, north: float) -> int:
    """Return the largest number of tiles that touch a box: twice the squares, because zones overlap."""
    widest = cos(radians(0 if south <= 0 <= north else min(abs(south), abs(north))))
    width = 360.0 if east - west >= 360 else (east - west) % 360
    columns = ceil(width * widest * _KM_OF_A_DEGREE / _KM_OF_A_TILE) + 2
    rows = ceil((north - south) * _KM_OF_A_DEGREE / _KM_OF_A_TILE) + 2
    return 2 * columns * rows


#: How many items late an item may arrive and still be sorted.
HELD_ITEMS = 4 * PAGE_ITEMS
IDS_AT_ONCE = 100
#: Without a place, the Planetary Computer's database looks at every item on Earth in the interval, and gives up after
#: thirty seconds.
DAYS_AT_ONCE = timedelta(days=31)
#: The property that names an item's tile: the Planetary Computer's, and that of STAC's grid extension.
TILE_PROPERTY, GRID_PROPERTY = "s2:mgrs_tile", "grid:code"
_SORT = [{"field": "properties.datetime", "direction": "asc"}, {"field": "id", "direction": "asc"}]
#: Statuses of pages that do not exist.
NOWHERE = frozenset({404, 405, 410})
#: Characters repeated from an API's or a library's message.
_SHOWN = 200
#: What pystac and pystac-client raise for an answer of another form: they trust what an API sends.
_TRIPPED = (STACError, ClientTypeError, NotImplementedError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class _Search:
    """One search: the keywords of ``Client.search``, the interval among them, and the most items it may find."""

    api_io: BoundedStacApiIO
    parameters: dict[str, Any]
    interval: Interval | None
    most: int


class PlanetaryComputerSource:
    """Searches one collection of a STAC API.

    ``deadline_s`` is how long a search may go without receiving a page, waiting and retries included. It does not run
    while the caller processes results.
    """

    #: Nothing local may be read for an item that came from a server.
    local_root: Path | None = None

    def __init__(
        self,
        url: str,
        collection: str,
        deadline_s: float = 300,
        *,
        retry: RetryPolicy | None = None,
        form: ApiForm = ApiForm(),
    ) -> None:
        parts = urlsplit(url)
        self._url = url.rstrip("/")
        self._host = parts.hostname or ""
        self._collection = collection
        self._deadline_s = deadline_s
        self._retry = retry
        self.form = form
        self._collection_seen = False
        if parts.scheme != "https" and not self.allow_loopback:
            raise SettingsError(f"{form.url_setting} {self._url}: plain http is for loopback only")

    @property
    def allow_loopback(self) -> bool:
        """True if assets may be read from loopback, because the API is there itself."""
        return self._host in LOOPBACK_HOSTS

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from: the Planetary Computer's and the API's own."""
        return PLANETARY_COMPUTER_HOSTS | {self._host}

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items, see ``SceneSource``.

        Raises:
            SourceUnavailable: no page within the deadline.
            SourceRefused: not a STAC API, an unknown collection, another server's page, pages that repeat, do not end
                or are too large, a refused request.
            SettingsError: the query contradicts itself.
        """
        with self._named_errors():
            client, api_io = self._open()
            self._check_collection(api_io)
            id_groups = _ids_at_once(query.ids)
            asked = query if client.conforms_to(ConformanceClasses.QUERY) else replace(query, tiles=())
            searches = [
                _Search(
                    api_io,
                    self._search_parameters(client, query, ids, interval),
                    interval,
                    find_most_items(asked, ids, interval),
                )
                for ids in id_groups
                for interval in _intervals_at_once(query)
            ]
        pages = (page for search in searches for page in self._read_pages(client, search))
        items: Iterator[Item] = _keep_tiles(_keep_new(pages), self.form, query.tiles)
        items = (self._resolve_hrefs(item) for item in items)
        if len(id_groups) == 1 and client.conforms_to(ConformanceClasses.SORT):
            # With a limit, no more pages are requested than it needs.
            ordered: Iterable[Item] = sort_stream(items, held=0 if query.limit else HELD_ITEMS)
        else:
            ordered = sort_items(items)
        yield from islice(ordered, query.limit)

    def can_filter(self) -> bool:
        """Return True if the API says that it filters by properties and sorts, so that a first item costs one page.

        Raises:
            SourceUnavailable, SourceRefused: as ``find_items``.
        """
        with self._named_errors():
            client, _ = self._open()
            return client.conforms_to(ConformanceClasses.QUERY) and client.conforms_to(
                ConformanceClasses.SORT
            )

    def _open(self) -> tuple[Client, BoundedStacApiIO]:
        api_io = BoundedStacApiIO(self._url, self._deadline_s, self._retry, self.form.url_setting)
        return Client.open(self._url, stac_io=api_io), api_io

    def _read_pages(self, client: Client, search: _Search) -> Iterator[list[Item]]:
        """Yield the pages of one search, with at most its ``most`` items in total."""
        count = 0

        def read(start: datetime | None, limit: int) -> Iterator[dict[str, Any]]:
            nonlocal count
            parameters = search.parameters | {"limit": limit}
            if start:
                end = search.interval[1] if search.interval else None
                parameters["datetime"] = format_datetime_interval((start, end))
            asked = client.search(**parameters)
            for page in search.api_io.get_pages(asked.url, asked.method, asked.get_parameters()):
                count += len(page["features"])
                if count > search.most:
                    raise SourceRefused(
                        f"{self._url}: gives more than {search.most} items, more than Sentinel-2 can have taken "
                        "of what was asked: the API does not end its pages; narrow the search, or try again"
                    )
                yield page

        limit, is_sorted = search.parameters["limit"], "sortby" in search.parameters
        with self._named_errors():
            yield from read_all_pages(read, self._url, limit, is_sorted=is_sorted)

    def _resolve_hrefs(self, item: Item) -> Item:
        """Return ``item`` with its relative hrefs resolved against the item's own URL."""
        base = f"{self._url}/collections/{quote(self._collection, safe='')}/items/"
        for holder in find_holders(item):
            if is_relative(holder["href"]):
                holder["href"] = urljoin(base, holder["href"])
        return item

    def _check_collection(self, api_io: BoundedStacApiIO) -> None:
        """Check that the API has the collection: a search in an unknown one silently finds nothing."""
        if self._collection_seen:
            return
        try:
            api_io.read_json(f"{self._url}/collections/{quote(self._collection, safe='')}")
        except APIError as error:
            if error.status_code != 404:
                raise
            raise SourceMistaken(
                f"{self._url} has no collection {self._collection!r}; check {self.form.collection_setting}"
            ) from error
        self._collection_seen = True

    def _search_parameters(
        self, client: Client, query: SceneQuery, ids: tuple[str, ...] | None, interval: Interval | None
    ) -> dict[str, Any]:
        """Return the keywords of ``Client.search`` for the items of ``query`` with ``ids`` in ``interval``."""
        if query.bbox and query.intersects:
            raise SettingsError("a query has a bbox or a geometry that it intersects, not both")
        parameters: dict[str, Any] = {
            "method": _choose_method(client),
            "collections": [self._collection],
            # One more than requested shows whether the next item has the same instant as the last one.
            "limit": min(PAGE_ITEMS, (query.limit or PAGE_ITEMS) + 1),
            "ids": ids,
            "bbox": query.bbox,
            "intersects": query.intersects,
        }
        if query.bbox and query.bbox[0] > query.bbox[2]:
            # The Planetary Computer's database treats such a box as its complement (stac-utils/pgstac#428).
            parameters |= {"bbox": None, "intersects": build_box(*query.bbox)}
        if interval:
            parameters["datetime"] = format_datetime_interval(interval)
        if query.tiles and client.conforms_to(ConformanceClasses.QUERY):
            parameters["query"] = {self.form.tile_property: {"in": self.form.spell_tiles(query.tiles)}}
        if client.conforms_to(ConformanceClasses.SORT):
            parameters["sortby"] = _SORT
        return parameters

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Translate errors of pystac and pystac-client into ours."""
        try:
            yield
        except APIError as error:
            status = getattr(error, "status_code", None)
            text = f"{self._url}: HTTP {status}: {make_printable(error, _SHOWN)}"
            if status in {401, 403}:
                raise SourceDenied(f"{text}; the API wants credentials, or shuts this address out") from error
            if status in NOWHERE:
                raise SourceMistaken(f"{text}: check {self.form.url_setting}") from error
            raise (SourceUnavailable if status == 408 else SourceRefused)(text) from error
        except _TRIPPED as error:
            problem = make_printable(f"{type(error).__name__}: {error}", _SHOWN)
            raise SourceRefused(f"{self._url}: the answer is not a STAC API's: {problem}") from error


def _ids_at_once(ids: tuple[str, ...]) -> list[tuple[str, ...] | None]:
    """Return ``ids`` in groups that fit into one request; a single None, for a search without ids, if it is empty."""
    return [ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE)] or [None]


def _intervals_at_once(query: SceneQuery) -> list[Interval | None]:
    """Return the query's interval in parts that can be searched in time; a single None if it has none."""
    if query.datetime is None:
        return [None]
    interval = parse_datetime_interval(query.datetime)
    if query.bbox or query.intersects or query.ids:
        return [interval]
    return list(split_interval(interval, DAYS_AT_ONCE))


def _choose_method(client: Client) -> str:
    """Return POST, unless the API says that it supports only GET."""
    methods = {link.extra_fields.get("method") or "GET" for link in client.get_links("search")}
    return "GET" if methods == {"GET"} else "POST"


def _keep_new(pages: Iterable[list[Item]]) -> Iterator[Item]:
    """Yield the items of ``pages`` without signatures or duplicates."""
    seen: set[str] = set()
    for page in pages:
        for item in page:
            if str(item.get("id")) not in seen:
                seen.add(str(item.get("id")))
                yield unsign_item(item)


def _keep_tiles(items: Iterable[Item], form: ApiForm, tiles: tuple[str, ...]) -> Iterator[Item]:
    """Yield the items of ``tiles``: the query extension may be missing or ignored."""
    spelled = (*form.spell_tiles(tiles), None)
    for item in items:
        if not tiles or find_property(item, form.tile_property) in spelled:
            yield item
