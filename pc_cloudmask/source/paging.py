"""Read all pages of a search until it is proven that there are no more, cap its items, and sort them.

How a search is known to be complete
------------------------------------
By the STAC specification, a page without a ``next`` link is the last one. In January 2026 the Planetary Computer sent
no links for days (microsoft/PlanetaryComputer#469): searches silently lost most of the matching items.

1. A page without a link ends a search only if it is not full. A page is full if it has as many items as requested, as
   many as a page before it, or as many as a common limit that an API imposes itself.
2. If the API says how many items match, that many must have been received, counting each id once.
3. In doubt, the search continues from the instant of the last item. That item must be returned again, which proves that
   the API answers the request. Items are sorted by datetime, so no missing item lies before that instant.
4. If this is not possible, because the API does not sort or has more items of one instant than fit into a page, a
   search whose last page has as many items as requested is incomplete: a retryable error.
5. An empty page with a link is followed like any other.
6. A link that leads nowhere (microsoft/PlanetaryComputer#360) promises more: the search continues as in 3.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from math import ceil, cos, radians
from typing import Any

from pc_cloudmask.errors import SourceRefused, SourceUnavailable
from pc_cloudmask.scene.geometry import build_shape
from pc_cloudmask.scene.query import Interval, SceneQuery
from pc_cloudmask.source.fields import Item, find_datetime, read_id

#: The Planetary Computer's default, out of at most 1000: pages of 5 MB.
PAGE_ITEMS = 250
#: The Planetary Computer's maximum, requested if one instant has more items than fit into a page.
LARGEST_PAGE_ITEMS = 1000
#: Empty pages followed in one search.
MAX_EMPTY_PAGES = 100
#: Limits that APIs commonly impose: STAC's default, 10, and other round numbers.
_COMMON_LIMITS = frozenset({10, 20, 25, 50, 100, 200, 250, 500, 1000})
Page = Mapping[str, Any]
#: Returns the linked pages of a search for items from an instant on (None: from the search's own start), with up to the
#: given number of items each.
ReadPages = Callable[[datetime | None, int], Iterable[Page]]


class NoSuchPage(Exception):
    """The page that a link leads to does not exist."""


@dataclass
class _Chain:
    """What a chain of linked pages, of at most ``asked`` items each, has shown so far."""

    asked: int
    ids: set[str] = field(default_factory=set)
    unnamed: int = 0
    #: Of the pages with items, and of the last one of them.
    sizes: list[int] = field(default_factory=list)
    size: int = 0
    empty: int = 0
    matched: int | None = None
    instants: list[datetime] = field(default_factory=list)
    is_cut: bool = False

    @property
    def fills_request(self) -> bool:
        """True if the last page has as many items as requested, or as many as an earlier, smaller request returned."""
        return self.size >= self.asked or (self.asked == LARGEST_PAGE_ITEMS and self.size == PAGE_ITEMS)

    @property
    def is_doubtful(self) -> bool:
        """True if there may be more items than were received."""
        is_full = self.size in _COMMON_LIMITS or self.size in self.sizes[:-1]
        return (
            self.is_cut or self.fills_request or is_full or len(self.ids) + self.unnamed < (self.matched or 0)
        )

    def add(self, page: Page) -> list[Item]:
        """Add a page and return its items: what is not an item fails like one without an id, and stops no other."""
        items = [item if isinstance(item, dict) else {} for item in page["features"]]
        self.ids.update(read_id(item) for item in items if "id" in item)
        self.unnamed += sum("id" not in item for item in items)
        self.matched = _read_matched(page, self.matched)
        if items:
            self.size = len(items)
            self.sizes.append(self.size)
            self.instants = [moment for item in items if (moment := find_datetime(item))]
        else:
            self.empty += 1
        return items

    def find_start(self) -> datetime | None:
        """Return the instant, to the second, from which to continue; None if the last page has none."""
        if any(later < earlier for earlier, later in pairwise(self.instants)):
            return None
        return self.instants[-1].replace(microsecond=0) if self.instants else None


def read_all_pages(read: ReadPages, url: str, limit: int, *, is_sorted: bool) -> Iterator[Item]:
    """Yield the items of a search until it is proven that there are no more.

    ``limit`` is the requested size of the first page; ``is_sorted`` says whether the API claims to sort by datetime.
    ``url`` names the API in errors.

    Raises:
        SourceUnavailable: the API ends its pages without proof that there are no more.
        SourceRefused: pages that repeat, or are empty without end.
    """
    known: set[str] = set()
    first = chain = _Chain(limit)
    yield from _follow(read(None, limit), chain, known)
    while chain.is_doubtful and (start := chain.find_start() if is_sorted else None):
        before = len(known)
        chain = _Chain(max(PAGE_ITEMS, chain.asked))
        yield from _follow(read(start, chain.asked), chain, known)
        if len(known) - before == len(chain.ids):
            raise SourceUnavailable(
                f"{url}: gives {before} items without saying that these are all, and nothing when asked for "
                "the rest: try again later"
            )
        if len(known) > before:
            continue
        if chain.asked == LARGEST_PAGE_ITEMS or not chain.fills_request:
            break
        chain.asked = LARGEST_PAGE_ITEMS
    _check_complete(url, first, chain, len(known) + first.unnamed)


def _follow(pages: Iterable[Page], chain: _Chain, known: set[str]) -> Iterator[Item]:
    """Yield the items of linked pages that are not yet ``known``, and add them."""
    try:
        for page in pages:
            items = chain.add(page)
            fresh = [item for item in items if read_id(item) not in known]
            if (items and not fresh and len(chain.sizes) > 1) or chain.empty > MAX_EMPTY_PAGES:
                raise SourceRefused("the STAC API repeats its pages; try again, or narrow the search")
            known.update(map(read_id, fresh))
            yield from fresh
    except NoSuchPage:
        chain.is_cut = True


def _check_complete(url: str, first: _Chain, last: _Chain, count: int) -> None:
    """Raise ``SourceUnavailable`` unless ``count`` is what the API said, or else its last page had room for more."""
    if last.is_cut:
        raise SourceUnavailable(
            f"{url}: links to a next page that is not there after {count} items: try again later, or narrow the search"
        )
    if first.matched is None and last.fills_request:
        raise SourceUnavailable(
            f"{url}: ends its pages after {count} items, the last one full: there may be more, which it "
            "cannot be asked for; try again later, or narrow the search"
        )
    if count < (first.matched or 0):
        # Items that were requested but not returned would be taken for gone.
        raise SourceUnavailable(
            f"{url}: says that {first.matched} items match, gives {count} and ends: try again later"
        )


def _read_matched(page: Page, before: int | None) -> int | None:
    """Return the number of matching items from either of STAC's fields in the page, else ``before``."""
    context = page.get("context")
    told = [page.get("numberMatched"), context.get("matched") if isinstance(context, dict) else None]
    counts = [each for each in told if isinstance(each, int) and not isinstance(each, bool)]
    return max(counts, default=before)


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
    start, end = interval or (None, None)
    days = _OPEN_DAYS if start is None or end is None else (end - start).days + 2
    return min(MAX_ITEMS, SLACK + ITEMS_OF_A_TILE_AND_DAY * tiles * days)


def _count_tiles(west: float, south: float, east: float, north: float) -> int:
    """Return the largest number of tiles that touch a box: twice the squares, because zones overlap."""
    widest = cos(radians(0 if south <= 0 <= north else min(abs(south), abs(north))))
    width = 360.0 if east - west >= 360 else (east - west) % 360
    columns = ceil(width * widest * _KM_OF_A_DEGREE / _KM_OF_A_TILE) + 2
    rows = ceil((north - south) * _KM_OF_A_DEGREE / _KM_OF_A_TILE) + 2
    return 2 * columns * rows


#: Items kept in memory for sorting: about half a gigabyte.
MAX_COLLECTED_ITEMS = 10_000
_UNDATED = datetime.min.replace(tzinfo=UTC)


def sort_items(items: Iterable[Item]) -> list[Item]:
    """Return all items, sorted, those without a datetime first; they must fit into memory."""
    held = list(islice(items, MAX_COLLECTED_ITEMS + 1))
    if len(held) > MAX_COLLECTED_ITEMS:
        raise SourceRefused(
            f"more than {MAX_COLLECTED_ITEMS} items match, too many to be sorted here: narrow the search"
        )
    return sorted(held, key=lambda item: (find_datetime(item) or _UNDATED, read_id(item)))


def sort_stream(items: Iterable[Item], held: int) -> Iterator[Item]:
    """Sort items that arrive roughly by datetime, keeping only ``held`` of them and those of one instant in memory.

    Items of one instant are sorted by id here, because databases disagree on how ids sort ("_" before or after "0").
    Items less than ``held`` late are put in their place: the Planetary Computer's pages were not always in order
    (microsoft/PlanetaryComputer#164). Items without a datetime keep their place.

    Raises:
        SourceRefused: an item arrives later than that, or one instant has more items than fit into memory.
    """
    waiting: list[tuple[tuple[datetime, str], int, Item]] = []
    newest = _UNDATED
    passed = (_UNDATED, "")
    for number, item in enumerate(items):
        key = (find_datetime(item) or newest, read_id(item))
        if key < passed:
            raise SourceRefused(
                f"the STAC API does not sort by datetime as asked: {key[0]} after {passed[0]}"
            )
        newest = max(newest, key[0])
        heapq.heappush(waiting, (key, number, item))
        while len(waiting) > held and waiting[0][0][0] < newest:
            passed, _, first = heapq.heappop(waiting)
            yield first
        if len(waiting) > held + MAX_COLLECTED_ITEMS:
            raise SourceRefused(f"the STAC API gives more than {MAX_COLLECTED_ITEMS} items of one instant")
    while waiting:
        yield heapq.heappop(waiting)[-1]
