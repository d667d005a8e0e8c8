"""Items from a STAC API: the Planetary Computer's, or any second one, such as Earth Search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
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
from pc_cloudmask.scene.geometry import BBox, build_box, build_tile_box
from pc_cloudmask.scene.query import (
    Interval,
    SceneQuery,
    format_datetime_interval,
    parse_datetime_interval,
    split_interval,
)
from pc_cloudmask.source.fields import Item, find_datetime, find_property, find_tile, keep_new
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS, find_holders, is_relative, unsign_item
from pc_cloudmask.source.item_files import parse_json
from pc_cloudmask.source.paging import (
    PAGE_ITEMS,
    NoSuchPage,
    find_most_items,
    read_all_pages,
    sort_items,
    sort_stream,
)
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

    def __init__(self, url: str, deadline_s: float, retry: RetryPolicy | None, url_setting: str) -> None:
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
        """Return the JSON object of a STAC API, or raise ``SourceRefused``, as for nesting beyond 1024 levels."""
        try:
            document = parse_json(txt)
        except ValueError as error:
            looks = "a web page" if txt.lstrip()[:1] == "<" else f"not JSON ({error})"
            raise SourceMistaken(f"STAC API: the answer is {looks}: {self._hint}") from error
        kind = document.get("type") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not (
            "features" in document or kind in ("Catalog", "Collection")
        ):
            # An error with status 200 would look like an empty page.
            raise SourceMistaken(f"STAC API: the answer is JSON but not STAC: {self._hint}")
        conforms_to = document.get("conformsTo")
        can_search = isinstance(conforms_to, list) and any("/item-search" in str(uri) for uri in conforms_to)
        if kind == "Catalog" and not can_search:
            raise SourceMistaken(
                f"STAC API: a catalog, but not of an API that searches items: {self._hint}; "
                "a static catalog is read with --items"
            )
        if not isinstance(document.get("features", []), list):
            raise SourceRefused("STAC API: a page holds no list of items")
        if not isinstance(document.get("links") or [], list):
            raise SourceRefused("STAC API: a page holds no list of links")
        return document

    def get_pages(
        self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield every linked page, or raise ``NoSuchPage``; pystac-client itself would stop at an empty one."""
        page = self.read_json(url, method=method, parameters=parameters)
        yield page
        while following := next((link for link in page.get("links") or [] if link["rel"] == "next"), None):
            try:
                page = self.read_json(Link.from_dict(following), parameters=parameters)
            except APIError as error:
                if error.status_code not in NOWHERE:
                    raise
                raise NoSuchPage(f"HTTP {error.status_code}") from error
            yield page


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
        host = parts.hostname or ""
        #: Hosts that assets may be read from: the Planetary Computer's and the API's own.
        self.asset_hosts = PLANETARY_COMPUTER_HOSTS | {host}
        self.allow_loopback = host in LOOPBACK_HOSTS
        self._collection = collection
        self._deadline_s = deadline_s
        self._retry = retry
        self.form = form
        self._collection_seen = False
        if parts.scheme != "https" and not self.allow_loopback:
            raise SettingsError(f"{form.url_setting} {self._url}: plain http is for loopback only")

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
            searches = list(_split(query))
        found = (item for search in searches for item in self._search(client, api_io, query, *search))
        spelled = (*self.form.spell_tiles(query.tiles), None)
        items: Iterator[Item] = (
            self._resolve_hrefs(item)
            for item in map(unsign_item, keep_new(found))
            # The query extension may be missing or ignored.
            if not query.tiles or find_property(item, self.form.tile_property) in spelled
        )
        if len(query.ids) <= IDS_AT_ONCE and client.conforms_to(ConformanceClasses.SORT):
            # With a limit, no more pages are requested than it needs.
            items = sort_stream(items, held=0 if query.limit else HELD_ITEMS)
        else:
            items = iter(sort_items(items))
        yield from islice(items, query.limit)

    def can_filter(self) -> bool:
        """Return True if the API says that it filters by properties and sorts, so that a first item costs one page."""
        with self._named_errors():
            client, _ = self._open()
            return all(map(client.conforms_to, (ConformanceClasses.QUERY, ConformanceClasses.SORT)))

    def _open(self) -> tuple[Client, BoundedStacApiIO]:
        api_io = BoundedStacApiIO(self._url, self._deadline_s, self._retry, self.form.url_setting)
        return Client.open(self._url, stac_io=api_io), api_io

    def _search(
        self,
        client: Client,
        api_io: BoundedStacApiIO,
        query: SceneQuery,
        ids: tuple[str, ...],
        interval: Interval | None,
    ) -> Iterator[Item]:
        """Yield the items of ``query`` with ``ids`` in ``interval``, at most as many as Sentinel-2 can have taken."""
        most = count = 0

        def read(start: datetime | None, limit: int) -> Iterator[dict[str, Any]]:
            nonlocal count
            rest = (start, interval[1] if interval else None) if start else interval
            search = client.search(limit=limit, **self._search_parameters(client, query, ids, rest))
            for page in api_io.get_pages(search.url, search.method, search.get_parameters()):
                count += len(page["features"])
                if count > most:
                    raise SourceRefused(
                        f"{self._url}: gives more than {most} items, more than Sentinel-2 can have taken "
                        "of what was asked: the API does not end its pages; narrow the search, or try again"
                    )
                yield page

        # One more than requested shows whether the next item has the same instant as the last one.
        limit = min(PAGE_ITEMS, (query.limit or PAGE_ITEMS) + 1)
        with self._named_errors():
            asked = query if client.conforms_to(ConformanceClasses.QUERY) else replace(query, tiles=())
            most = find_most_items(asked, ids, interval)
            is_sorted = client.conforms_to(ConformanceClasses.SORT)
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
        self, client: Client, query: SceneQuery, ids: tuple[str, ...], interval: Interval | None
    ) -> dict[str, Any]:
        """Return the keywords of ``Client.search`` for the items of ``query`` with ``ids`` in ``interval``."""
        if query.bbox and query.intersects:
            raise SettingsError("a query has a bbox or a geometry that it intersects, not both")
        methods = {link.extra_fields.get("method") or "GET" for link in client.get_links("search")}
        parameters: dict[str, Any] = {
            "method": "GET" if methods == {"GET"} else "POST",
            "collections": [self._collection],
            "ids": ids or None,
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


def _split(query: SceneQuery) -> Iterator[tuple[tuple[str, ...], Interval | None]]:
    """Yield groups of the query's ids with parts of its interval: what a single search finds in time."""
    interval = parse_datetime_interval(query.datetime) if query.datetime else None
    intervals: list[Interval | None] = [interval]
    if interval and not (query.bbox or query.intersects or query.ids):
        intervals = [*split_interval(interval, DAYS_AT_ONCE)]
    for first in range(0, len(query.ids) or 1, IDS_AT_ONCE):
        yield from ((query.ids[first : first + IDS_AT_ONCE], each) for each in intervals)


#: Requested to get one: items of one instant, a datatake's tiles, are sorted before the first is returned.
_FIRST_ITEMS = 100
URL_SETTING, COLLECTION_SETTING = "CLOUDMASK_SECOND_API", "CLOUDMASK_SECOND_COLLECTION"


class SecondApi:
    """Searches one collection of any STAC API, finding tiles by whatever property names them.

    APIs disagree on the property that names a tile. A search by a property that its items do not have silently finds
    nothing, which would look like tiles without a scene. So the API itself is tested first: for any item of the
    collection, then for that item by its tile. Only a property by which it was found is used. If there is none, or if
    the API does not search by properties, items are requested by a box that contains the tile, and those of
    neighbouring tiles are dropped here.
    """

    def __init__(self, url: str, collection: str, *, retry: RetryPolicy | None = None) -> None:
        self._url = url
        self._collection = collection
        self._retry = retry
        self._plain = self._open(TILE_PROPERTY)

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the matching items without duplicates; items that name no tile match any.

        Raises:
            SourceUnavailable, SourceRefused: as ``PlanetaryComputerSource.find_items``; the collection is empty.
        """
        by_tile = self._by_tile
        if not query.tiles:
            yield from self._plain.find_items(query)
        elif by_tile and not (query.bbox or query.intersects):
            yield from by_tile.find_items(query)
        else:
            yield from self._find_by_place(query)

    def _find_by_place(self, query: SceneQuery) -> Iterator[Item]:
        """Yield the items of the query's tiles that lie in its place, or else in the boxes of its tiles."""
        wanted = {*query.tiles, None}
        if query.bbox or query.intersects:
            queries = [replace(query, tiles=())]
        else:
            queries = [replace(query, tiles=(), bbox=_wrap(build_tile_box(tile))) for tile in query.tiles]
        found = (
            item for each in queries for item in self._plain.find_items(each) if find_tile(item) in wanted
        )
        yield from keep_new(found)

    @cached_property
    def _by_tile(self) -> PlanetaryComputerSource | None:
        """A source that finds items by their tiles; None if the API has not proven that it can do so."""
        if not self._plain.can_filter():
            return None
        item = next(self._plain.find_items(SceneQuery(limit=_FIRST_ITEMS)), None)
        if item is None:
            raise SourceRefused(
                f"{self._url} has no item in {self._collection!r}, so it tells nothing of any scene: "
                f"check {COLLECTION_SETTING}"
            )
        tile, moment = find_tile(item), find_datetime(item)
        if tile is None or moment is None:
            return None
        around = (moment - timedelta(seconds=1), moment + timedelta(seconds=1))
        control = SceneQuery(tiles=(tile,), datetime=format_datetime_interval(around))
        for name in (TILE_PROPERTY, GRID_PROPERTY):
            source = self._open(name)
            if find_property(item, name) in source.form.spell_tiles((tile,)) and any(
                found.get("id") == item.get("id") for found in source.find_items(control)
            ):
                return source
        return None

    def _open(self, tile_property: str) -> PlanetaryComputerSource:
        form = ApiForm(URL_SETTING, COLLECTION_SETTING, tile_property)
        return PlanetaryComputerSource(self._url, self._collection, retry=self._retry, form=form)


def _wrap(box: BBox) -> BBox:
    """Return a box that may extend beyond 180 as one whose west exceeds its east."""
    west, south, east, north = box
    return ((west + 180) % 360 - 180, max(south, -90.0), (east + 180) % 360 - 180, min(north, 90.0))
