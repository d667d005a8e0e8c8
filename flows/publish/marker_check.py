"""Checking the markers of publications under way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flows.ports import ObjectStore
from flows.publish.findings import Finding, Problem
from flows.publish.marker import list_markers, read_marker
from flows.publish.reading import CouldNotRead, looking_at
from flows.stac.layout import PENDING_PREFIX, ItemKeys


@dataclass(frozen=True, slots=True)
class Markers:
    """What living writers are at, and keys of what dead ones left.

    A marker that cannot be read is taken for a living writer's, so its item is left alone.
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
                is_gone = marker is None and store.find_object(key) is None
        except CouldNotRead as error:
            findings.append(error.finding)
            unread.append(key.removeprefix(PENDING_PREFIX).removesuffix(".json"))
            continue
        if marker is not None and not marker.is_stale(now):
            live.append(marker.keys)
        elif not is_gone:
            stale.append(key)
            findings.append(Finding(Problem.STALE_MARKER, key, "no living writer ends what it announces"))
    pending = frozenset(unread).union(keys.item_id for keys in live)
    return Markers(frozenset(live), pending, tuple(stale), tuple(findings))
