"""Read all pages of a search, until it is proven that there are no more.

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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from pc_cloudmask.errors import SourceRefused, SourceUnavailable
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.selection import find_datetime

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
    sizes: list[int] = field(default_factory=list)
    empty: int = 0
    matched: int | None = None
    instants: list[datetime] = field(default_factory=list)
    is_cut: bool = False

    @property
    def fills_request(self) -> bool:
        """True if the last page has as many items as requested, or as many as an earlier, smaller request returned."""
        size = self.sizes[-1] if self.sizes else 0
        return size >= self.asked or (self.asked == LARGEST_PAGE_ITEMS and size == PAGE_ITEMS)

    @property
    def is_doubtful(self) -> bool:
        """True if there may be more items than were received."""
        size = self.sizes[-1] if self.sizes else 0
        is_full = size in _COMMON_LIMITS or size in self.sizes[:-1]
        return (
            self.is_cut or self.fills_request or is_full or len(self.ids) + self.unnamed < (self.matched or 0)
        )

    def add(self, page: Page) -> list[Item]:
        """Add a page and return its items: what is not an item fails like one without an id, and stops no other."""
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
        """Return the instant, to the second, from which to continue; None if the last page has none."""
        if any(later < earlier for earlier, later in pairwise(self.instants)):
            return None
        return self.instants[-1].replace(microsecond=0) if self.instants else None


def read_all_pages(read: ReadPages, url: str, limit: int, *, is_sorted: bool) -> Iterator[list[Item]]:
    """Yield the items of a search page by page, until it is proven that there are no more.

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


def _follow(pages: Iterable[Page], chain: _Chain, known: set[str]) -> Iterator[list[Item]]:
    """Yield the items of linked pages that are not yet ``known``, and add them."""
    for page in _mark_cut(pages, chain):
        items = chain.add(page)
        fresh = [item for item in items if _read_id(item) not in known]
        if (items and not fresh and len(chain.sizes) > 1) or chain.empty > MAX_EMPTY_PAGES:
            raise SourceRefused("the STAC API repeats its pages; try again, or narrow the search")
        known.update(map(_read_id, fresh))
        if fresh:
            yield fresh


def _mark_cut(pages: Iterable[Page], chain: _Chain) -> Iterator[Page]:
    """Yield ``pages``, and record in ``chain`` if they end before the last."""
    try:
        yield from pages
    except NoSuchPage:
        chain.is_cut = True


def _check_complete(url: str, first: _Chain, last: _Chain, count: int) -> None:
    """Check the number of items against what the API said, or else that its last page had room for more.

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
        # Items that were requested but not returned would be taken for gone.
        raise SourceUnavailable(
            f"{url}: says that {first.matched} items match, gives {count} and ends: try again later"
        )


def _read_id(item: Item) -> str:
    return str(item.get("id"))


def _read_matched(page: Page, before: int | None) -> int | None:
    """Return the number of matching items from either of STAC's fields in the page, else ``before``."""
    context = page.get("context")
    told = [page.get("numberMatched"), context.get("matched") if isinstance(context, dict) else None]
    counts = [each for each in told if isinstance(each, int) and not isinstance(each, bool)]
    return max(counts, default=before)
