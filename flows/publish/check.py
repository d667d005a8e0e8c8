"""Saying what is wrong with the published catalog, and mending it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from flows.errors import CloudmaskError, SettingsError
from flows.ports import ObjectStore
from flows.publish.findings import CheckReport, build_report
from flows.publish.item_check import DecodeMask
from flows.publish.leaf_check import Checker
from flows.publish.look import Look
from flows.publish.publisher import Publisher
from flows.publish.repair import REMOVAL_LIMIT, Removals
from flows.stac.catalog import build_root_catalog
from flows.stac.encoding import decode_document, encode_document
from flows.stac.layout import CATALOG_KEY
from flows.stac.links import CatalogContext, find_public_url

_WORKERS = 8
#: Looks of a repair: all but the last may mend, and the first that mends nothing tells what is left.
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How far a check goes: ``limit`` broken items at the most are taken out by a repair, None for all;
    with ``decode_mask`` the pixels of every mask are counted.
    """

    limit: int | None = REMOVAL_LIMIT
    decode_mask: DecodeMask | None = None


def check_catalog(
    store: ObjectStore,
    context: CatalogContext,
    *,
    repair: bool,
    now: datetime,
    single_writer: bool = False,
    options: CheckOptions = CheckOptions(),
) -> CheckReport:
    """Look at every published object once; with ``repair``, mend what is wrong and look again.

    One leaf a worker is in memory at a time. Writers may publish meanwhile: what their markers
    announce is no problem, and what looks like one is looked at again. What could not be read is a
    finding of its own, and nothing that it concerns is touched.

    Raises:
        SettingsError: the catalog was published for another public URL: nothing would be as it must be.
        StoreUnavailable: the store did not answer at all; doing it again is harmless.
        StoreRefused: the store may not be listed; a repair of one that is not safe for several writers.
    """
    _check_public_url(store, context)
    publisher = Publisher(store, context, now, single_writer=single_writer) if repair else None
    if publisher is not None:
        publisher.check_writers()
    removals = Removals(options.limit)
    with ThreadPoolExecutor(_WORKERS) as items, ThreadPoolExecutor(_WORKERS) as tiles:
        checker = Checker(store, context, items.map, options.decode_mask)
        looks: list[Look] = []
        try:
            while not looks or (looks[-1].has_mended and len(looks) < _LOOKS):
                mender = publisher if len(looks) < _LOOKS - 1 else None
                clean = looks[-1].clean if looks else {}
                looks.append(Look(checker, now, mender, tiles, removals, clean))
                looks[-1].run()
        finally:
            # What an interrupted check has queued would take minutes more on a slow store.
            tiles.shutdown(wait=False, cancel_futures=True)
            items.shutdown(wait=False, cancel_futures=True)
    first, last = looks[0], looks[-1]
    return build_report(
        first.tally,
        last.tally,
        last.pending,
        repaired=repair,
        unlinked=removals.taken,
        held_back=removals.held_back,
    )


def _check_public_url(store: ObjectStore, context: CatalogContext) -> None:
    """See that a root catalog that is whole was written for this public URL."""
    stored = store.read_object(CATALOG_KEY)
    try:
        public_url = (
            None
            if stored is None
            else find_public_url(decode_document(stored.body, CATALOG_KEY), CATALOG_KEY)
        )
    except (CloudmaskError, LookupError, TypeError, AttributeError):
        return  # damaged: a finding like any other
    other = CatalogContext(public_url)
    if stored is None or other == context or stored.body != encode_document(build_root_catalog(other)):
        return
    advice = f"set it to {public_url}" if public_url else "unset it"
    raise SettingsError(
        f"CLOUDMASK_PUBLIC_URL: {CATALOG_KEY} was written for {public_url or 'relative links'}, not for "
        f"{context.public_url or 'relative links'}: {advice}, or publish again with ingest --force"
    )
