"""All pages of a search, up to the proof that there is no further one.

How it is known that a search is complete
-----------------------------------------
By the STAC specification a page without a ``next`` link is the last one. In January 2026 the Planetary Computer gave
no links for days (microsoft/PlanetaryComputer#469): searches lost most of what matched, and nothing told so.

1. A page without a link ends a search only if it is not full. A page is full that has as many items as were asked
   for, as many as a page before it, or as many as is usual for a limit that an API sets itself.
2. Where the API tells how many items match, so many must have come, those of one id counted once.
3. In doubt the search goes on from the instant of the last item. That item must come again: it proves that the API
   answers what it is asked. Items come sorted by datetime, so none that is missing lies before that instant.
4. Where that is not possible, because the API does not sort or has more items of one instant than a page holds, a
   search whose last page has as many items as were asked for is not complete: an error, which may pass.
5. An empty page with a link is followed like any other.
6. A link that leads nowhere (microsoft/PlanetaryComputer#360) is a promise of more: the search goes on as in 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from pc_cloudmask.errors import SourceRefused, SourceUnavailable
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.selection import find_datetime

#: The Planetary Computer's default, of at most 1000: pages of 5 MB.
PAGE_ITEMS = 250
#: The most that the Planetary Computer gives at once, asked for where one instant has more items than a page.
LARGEST_PAGE_ITEMS = 1000
#: Empty pages that are followed in one search.
MAX_EMPTY_PAGES = 100
#: Limits that APIs set themselves: STAC's default, 10, and other round numbers.
_COMMON_LIMITS = frozenset({10, 20, 25, 50, 100, 200, 250, 500, 1000})
Page = Mapping[str, Any]
#: Returns the linked pages of a search for what was taken from an instant on (None: from the search's own start),
#: of so many items each.
ReadPages = Callable[[datetime | None, int], Iterable[Page]]


class NoSuchPage(Exception):
    """The page that a page links to is not there."""


@dataclass
class _Chain:
    """What pages that are linked to each other, of ``asked`` items at most, have told so far."""

    asked: int
    ids: set[str] = field(default_factory=set)
    unnamed: int = 0
    sizes: list[int] = field(default_factory=list)
    empty: int = 0
    matched: int | None = None
    instants: list[datetime] = field(default_factory=list)
    is_cut: bool = False

    @property
    def fills_request(self) -> bool:
        """True if the last page has as many items as were asked for, or as a smaller request before was given."""
        size = self.sizes[-1] if self.sizes else 0
        return size >= self.asked or (self.asked == LARGEST_PAGE_ITEMS and size == PAGE_ITEMS)

    @property
    def is_doubtful(self) -> bool:
        """True if there may be more items than came."""
        size = self.sizes[-1] if self.sizes else 0
        is_full = size in _COMMON_LIMITS or size in self.sizes[:-1]
        return (
            self.is_cut or self.fills_request or is_full or len(self.ids) + self.unnamed < (self.matched or 0)
        )

    def add(self, page: Page) -> list[Item]:
        """Take in a page and return its items: what is no item fails as one without an id, and stops no other."""
        items = [item if isinstance(item, dict) else {} for item in page["features"]]
        self.ids.update(_read_id(item) for item in items if "id" in item)
        self.unnamed += sum("id" not in item for item in items)
        self.matched = _read_matched(page, self.matched)
        if items:
            self.sizes.append(len(items))
            self.instants = [moment for item in items if (moment := find_datetime(item))]
        else:
            self.empty += 1
        return items

    def find_start(self) -> datetime | None:
        """Return the instant, to the second, to ask on from; None where the last page does not tell one."""
        if any(later < earlier for earlier, later in pairwise(self.instants)):
            return None
        return self.instants[-1].replace(microsecond=0) if self.instants else None


def read_all_pages(read: ReadPages, url: str, limit: int, *, is_sorted: bool) -> Iterator[list[Item]]:
    """Yield the items of a search page by page, until it is proven that there are no more.

    ``limit`` is what a first page is asked to hold, ``is_sorted`` tells whether the API says that it sorts by
    datetime. ``url`` names the API in errors.

    Raises:
        SourceUnavailable: the API ends its pages, and nothing proves that there are no more.
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


def _follow(pages: Iterable[Page], chain: _Chain, known: set[str]) -> Iterator[list[Item]]:
    """Yield what is not yet ``known`` of linked pages, and add it."""
    for page in _mark_cut(pages, chain):
        items = chain.add(page)
        fresh = [item for item in items if _read_id(item) not in known]
        if (items and not fresh and len(chain.sizes) > 1) or chain.empty > MAX_EMPTY_PAGES:
            raise SourceRefused("the STAC API repeats its pages; try again, or narrow the search")
        known.update(map(_read_id, fresh))
        if fresh:
            yield fresh


def _mark_cut(pages: Iterable[Page], chain: _Chain) -> Iterator[Page]:
    """Yield ``pages``, and note in ``chain`` if they end before the last."""
    try:
        yield from pages
    except NoSuchPage:
        chain.is_cut = True


def _check_complete(url: str, first: _Chain, last: _Chain, count: int) -> None:
    """Check what the API said of how many items match, or else that its last page had room for more.

    Raises:
        SourceUnavailable: there may be more items than ``count``.
    """
    if last.is_cut:
        raise SourceUnavailable(
            f"{url}: links to a next page that is not there after {count} items: try again later, or narrow the search"
        )
    if first.matched is None:
        if last.fills_request:
            raise SourceUnavailable(
                f"{url}: ends its pages after {count} items, the last one full: there may be more, which it "
                "cannot be asked for; try again later, or narrow the search"
            )
    elif count < first.matched:
        # What is asked for and not given would pass for gone.
        raise SourceUnavailable(
            f"{url}: says that {first.matched} items match, gives {count} and ends: try again later"
        )


def _read_id(item: Item) -> str:
    return str(item.get("id"))


def _read_matched(page: Page, before: int | None) -> int | None:
    """Return how many items match, as the page tells it by either of STAC's names, else what was told ``before``."""
    context = page.get("context")
    told = [page.get("numberMatched"), context.get("matched") if isinstance(context, dict) else None]
    counts = [each for each in told if isinstance(each, int) and not isinstance(each, bool)]
    return max(counts, default=before)
