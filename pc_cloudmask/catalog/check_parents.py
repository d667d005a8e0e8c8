"""Check the catalogs above the years, and the markers of writers."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from pc_cloudmask.catalog.documents import Coverage, build_root_catalog, read_collection_coverage
from pc_cloudmask.catalog.fields import (
    CatalogContext,
    decode_document,
    encode_document,
    find_public_url,
    read_document,
)
from pc_cloudmask.catalog.findings import (
    CouldNotRead,
    Finding,
    Problem,
    check_length,
    looking_at,
    read,
    read_catalog,
)
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_KEY, PENDING_PREFIX, ItemKeys
from pc_cloudmask.catalog.parents import ParentCatalog, collection_parent
from pc_cloudmask.catalog.steps import LEASE, list_markers, read_marker
from pc_cloudmask.catalog.walk import read_children
from pc_cloudmask.errors import CloudmaskError, SettingsError
from pc_cloudmask.storage.store import PROBE_FORM, PROBE_PREFIX, ObjectStore, StoredObject


@dataclass(frozen=True, slots=True)
class Children:
    """Names of a catalog's children.

    Those in ``present`` have a catalog. Those in ``unsure`` may or may not be linked: a live writer is publishing below
    them, or they could not be read.
    """

    present: frozenset[str]
    unsure: frozenset[str]


def check_parent(store: ObjectStore, parent: ParentCatalog, children: Children) -> Iterator[Finding]:
    """Yield what is wrong with the catalog, if anything.

    Raises:
        CouldNotRead: the catalog or its neighbours could not be read.
    """
    wanted = children.present - children.unsure
    stored = read_catalog(store, parent.key)
    if stored is None:
        if wanted:
            text = f"catalogs that it should link: {len(children.present)}"
            yield Finding(Problem.MISSING_CATALOG, parent.key, text)
        return
    document = read_document(stored)
    if document is None:
        yield Finding(Problem.UNREADABLE, parent.key, "is not a catalog")
        return
    linked = read_children(document)
    dangling = set(_find_dangling(store, parent, linked - children.present - children.unsure))
    for name in sorted(dangling):
        yield Finding(Problem.DANGLING_LINK, parent.key, f"links {name:.40}, whose catalog is not there")
    for name in sorted(wanted - linked):
        yield Finding(Problem.STALE_CATALOG, parent.key, f"does not link {name}")
    with looking_at(parent.folder):
        expected = encode_document(parent.build(sorted(linked - dangling)))
    if stored.body != expected:
        yield Finding(Problem.STALE_CATALOG, parent.key, "is not what its children give")


def check_collection(
    store: ObjectStore, context: CatalogContext, zones: Children, needed: Coverage | None
) -> Iterator[Finding]:
    """Yield what is wrong with the collection; ``needed`` is the least that it has to cover.

    Raises:
        CouldNotRead: the collection or its neighbours could not be read.
    """
    document = read_document(read_catalog(store, COLLECTION_KEY))
    covered = read_collection_coverage(document)
    yield from check_parent(store, collection_parent(store, context, covered, document), zones)
    if document is not None and needed is not None and (covered is None or covered.merge(needed) != covered):
        yield Finding(Problem.STALE_CATALOG, COLLECTION_KEY, "its extent or summaries lack some item")


def check_extent(before: StoredObject | None, allowed: Coverage | None) -> Iterator[Finding]:
    """Report a collection whose extent, before its items were listed, exceeded that of all of them together."""
    covered = read_collection_coverage(read_document(before))
    if covered is not None and (allowed is None or allowed.merge(covered) != allowed):
        text = "its extent or summaries cover more than its items"
        yield Finding(Problem.STALE_CATALOG, COLLECTION_KEY, text)


def check_root(store: ObjectStore, context: CatalogContext, zones: Children) -> Iterator[Finding]:
    """Yield what is wrong with the root catalog.

    Raises:
        CouldNotRead: the catalog could not be read.
    """
    stored = read_catalog(store, CATALOG_KEY)
    if stored is None:
        if zones.present - zones.unsure:
            yield Finding(Problem.MISSING_CATALOG, CATALOG_KEY, "the collection is not linked")
    elif stored.body != encode_document(build_root_catalog(context)):
        yield Finding(Problem.STALE_CATALOG, CATALOG_KEY, "is not what this program writes")


def check_public_url(store: ObjectStore, context: CatalogContext) -> None:
    """Check that a sound root catalog was written for this public URL.

    Raises:
        SettingsError: it was written for another URL.
        StoreUnavailable, StoreRefused: it cannot be read.
    """
    stored = store.read_object(CATALOG_KEY)
    if stored is None:
        return
    try:
        public_url = find_public_url(decode_document(stored.body, CATALOG_KEY), CATALOG_KEY)
    except (CloudmaskError, LookupError, TypeError, AttributeError):
        return  # damaged: reported like any other finding
    other = CatalogContext(public_url)
    if other == context or stored.body != encode_document(build_root_catalog(other)):
        return
    advice = f"set it to {public_url}" if public_url else "unset it"
    raise SettingsError(
        f"CLOUDMASK_PUBLIC_URL: {CATALOG_KEY} was written for {public_url or 'relative links'}, not for "
        f"{context.public_url or 'relative links'}: {advice}, or publish again with ingest --force"
    )


def _find_dangling(store: ObjectStore, parent: ParentCatalog, names: AbstractSet[str]) -> Iterator[str]:
    """Yield the names whose catalog is missing; one that has not been checked is in doubt."""
    for name in sorted(names):
        with looking_at(f"{parent.folder}{name:.40}/catalog.json"):
            if not parent.holds(store, name):
                yield name
            elif name not in set(store.list_folders(parent.folder)):
                raise CouldNotRead(f"{parent.folder}{name}/", "is there, and listings do not show it")


@dataclass(frozen=True, slots=True)
class Markers:
    """Items of live writers, and keys of the markers that dead writers left.

    A marker that cannot be read counts as a live writer's, so its item is left alone.
    """

    live: frozenset[ItemKeys] = frozenset()
    pending: frozenset[str] = frozenset()
    stale: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def read_markers(store: ObjectStore, now: datetime) -> Markers:
    """Read every marker.

    Raises:
        StoreUnavailable, StoreRefused: they cannot be listed.
    """
    live, unread, stale, findings = [], [], [], []
    for key in list_markers(store):
        try:
            with looking_at(key):
                marker = read_marker(store, key)
            stored = read(store, key) if marker is None else None
            if stored is not None:
                check_length(store, stored)
        except CouldNotRead as error:
            findings.append(error.finding)
            unread.append(key.removeprefix(PENDING_PREFIX).removesuffix(".json"))
            continue
        if marker is not None and not marker.is_stale(now):
            live.append(marker.keys)
        elif marker is not None or stored is not None:
            stale.append(key)
            findings.append(Finding(Problem.STALE_MARKER, key, "no living writer ends what it announces"))
    pending = frozenset(unread).union(keys.item_id for keys in live)
    return Markers(frozenset(live), pending, tuple(stale), tuple(findings))


def list_dead_probes(store: ObjectStore, now: datetime) -> list[str]:
    """Return the keys left by probes that were killed; a probe takes seconds, far less than a lease."""
    return [
        info.key
        for info in store.list_objects(PROBE_PREFIX)
        if PROBE_FORM.fullmatch(info.key) and info.modified is not None and info.modified + LEASE <= now
    ]
