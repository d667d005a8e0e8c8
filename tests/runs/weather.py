"""What may go wrong between a source, an Earth Engine and us on a day."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.doubles.earth_engine.faults import (
    ErrorReply,
    Faults,
    Html,
    missing_role,
    not_registered,
    quota_exceeded,
    unavailable,
)
from tests.doubles.stac_api.server import Fault, StacApiServer

Items = list[dict[str, Any]]


def calm(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """Nothing."""


def outage(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """Every search is refused for hours."""
    server.faults.extend([Fault(503, headers={"Retry-After": "9999"})] * 1000)


def short_outage(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """The source fails after the first answers, in the middle of a scan."""
    server.faults.extend([Fault(page={})] * dice.randint(1, 3))
    outage(server, items, dice)


def too_many_requests(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """Twice a request is put off."""
    server.faults.extend([Fault(429, headers={"Retry-After": "0"})] * 2)


def empty_answers(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """The source says that it has nothing, with status 200."""
    server.faults.extend([Fault(page={"features": [], "links": []})] * 1000)


def truncated_pages(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """A search ends after its first page, though there is more."""
    server.faults.extend([Fault(page={"links": []})] * 1000)


def lost_items(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """A third of the archive is gone for a day."""
    server.items = [item for item in items if dice.random() > 0.3]


def silent_about_ids(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """A third of the archive is gone for a day, and whoever asks for an id is told that there is none."""
    lost_items(server, items, dice)
    search = server.search

    def search_without_ids(query: dict[str, Any], method: str) -> dict[str, Any]:
        page = search(query, method)
        return {**page, "features": [], "links": []} if query.get("ids") else page

    server.search = search_without_ids  # type: ignore[method-assign]


def duplicates(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """Some items are listed twice."""
    server.items = items + dice.sample(items, len(items) // 3)


def disorder(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """The source sorts nothing."""
    server.conforms_to = [uri for uri in server.conforms_to if not uri.endswith("#sort")]
    server.items = dice.sample(items, len(items))


def broken_next_links(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """The link to the next page leads nowhere."""
    page = {"links": [{"rel": "next", "href": f"{server.url}/nowhere"}]}
    server.faults.extend([Fault(page=page)] * 1000)


def no_access(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """The source, or a gateway before it, asks who we are, or shuts us out."""
    server.faults.extend([Fault(dice.choice([401, 403]))] * 1000)


def odd_items(server: StacApiServer, items: Items, dice: random.Random) -> None:
    """Among the items are two with an azimuth that is no number, one of which has an id that can be no key."""
    if not items:
        return
    odd = {**items[0], "properties": {**items[0]["properties"], "s2:mean_solar_azimuth": "south"}}
    server.items = [*items, *({**odd, "id": odd_id} for odd_id in ODD_IDS)]


#: Those of ``odd_items``.
ODD_IDS = ("S2A_MSIL2A_20240101T000000_R081_T22KFV_20240102T000000", "../odd")

WEATHERS: tuple[tuple[Callable[[StacApiServer, Items, random.Random], None], int], ...] = (
    (calm, 70),
    (outage, 4),
    (short_outage, 4),
    (too_many_requests, 5),
    (empty_answers, 3),
    (truncated_pages, 3),
    (lost_items, 3),
    (silent_about_ids, 3),
    (duplicates, 4),
    (disorder, 4),
    (broken_next_links, 3),
    (no_access, 3),
    (odd_items, 3),
)
"""With how often they come."""

#: What Earth Engine answers to everything on a day of its own, None for the right answers, with how often it comes.
ENGINE_WEATHERS: tuple[tuple[ErrorReply | Html | None, int], ...] = (
    (None, 88),
    (ErrorReply(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."), 2),
    (missing_role(), 2),
    (not_registered(), 2),
    (quota_exceeded(), 2),
    (unavailable(), 2),
    (Html(), 2),
)


def let_it_rain(faults: Faults, fault: ErrorReply | Html | None, dice: random.Random) -> None:
    """Let Earth Engine answer so to everything, or at the pixels alone: pairing went well."""
    faults.clear()
    if fault is not None:
        faults.add(fault, path=dice.choice([None, ":computePixels"]))
