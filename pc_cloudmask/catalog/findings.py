"""What a check of the published catalog found."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore, StoredObject

#: Findings kept in full; further ones are counted, so that a ruined catalog still fits in memory.
MOST_FINDINGS = 1000


class Problem(StrEnum):
    """What can be wrong, or in doubt."""

    MISSING_CATALOG = "missing-catalog"
    UNREADABLE = "unreadable"
    STALE_CATALOG = "stale-catalog"
    DANGLING_LINK = "dangling-link"
    REPEATED_LINK = "repeated-link"
    UNLINKED_ITEM = "unlinked-item"
    UNSETTLED_VERSION = "unsettled-version"
    BROKEN_ITEM = "broken-item"
    MISSING_FILE = "missing-file"
    WRONG_FILE = "wrong-file"
    WRONG_MARK = "wrong-mark"
    ORPHAN = "orphan"
    STALE_MARKER = "stale-marker"
    UNKNOWN_OBJECT = "unknown-object"
    DOUBTFUL_SOURCE = "doubtful-source"
    COULD_NOT_READ = "could-not-read"
    COULD_NOT_REPAIR = "could-not-repair"

    @property
    def is_mendable(self) -> bool:
        """Whether a repair does anything about it."""
        return self not in _LEFT_ALONE


_LEFT_ALONE = frozenset(
    {Problem.UNKNOWN_OBJECT, Problem.DOUBTFUL_SOURCE, Problem.COULD_NOT_READ, Problem.COULD_NOT_REPAIR}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem at one key."""

    problem: Problem
    key: str
    detail: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.key}: {self.detail}"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check looked at and found.

    ``pending`` counts items that living writers are publishing; ``awaiting_removal`` counts objects that
    are of no use any more and are kept until their grace period is over. ``problems`` and ``findings``
    are what it met; a repair acts on the ``mendable`` ones. One that mended something looks again:
    ``left`` and ``left_findings`` are what it met then, else ``left`` is ``problems``. ``unread`` counts
    what the last look could not read, ``unlinked`` broken items that the repair took out of the catalog,
    ``held_back`` those beyond its limit.
    """

    items: int
    catalogs: int
    files: int
    pending: int
    awaiting_removal: int
    problems: int
    unknown_objects: int
    unread: int
    mendable: int
    findings: tuple[Finding, ...]
    repaired: bool
    looked_again: bool
    left: int
    left_findings: tuple[Finding, ...] = ()
    unlinked: int = 0
    held_back: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found by the last look."""
        return self.left == 0


@dataclass(slots=True)
class Tally:
    """Counts and findings of one look; safe to share between threads."""

    items: int = 0
    catalogs: int = 0
    files: int = 0
    awaiting_removal: int = 0
    problems: int = 0
    unknown_objects: int = 0
    unread: int = 0
    mendable: int = 0
    findings: list[Finding] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, items: int = 0, catalogs: int = 0, files: int = 0, awaiting_removal: int = 0) -> None:
        with self._lock:
            self.items += items
            self.catalogs += catalogs
            self.files += files
            self.awaiting_removal += awaiting_removal

    def report(self, findings: Iterable[Finding]) -> None:
        with self._lock:
            for finding in findings:
                self.problems += 1
                self.unknown_objects += finding.problem is Problem.UNKNOWN_OBJECT
                self.unread += finding.problem is Problem.COULD_NOT_READ
                self.mendable += finding.problem.is_mendable
                if len(self.findings) < MOST_FINDINGS:
                    self.findings.append(finding)

    def sort_findings(self) -> tuple[Finding, ...]:
        """The findings in order of key, whichever thread came first."""
        return tuple(sorted(self.findings, key=lambda finding: (finding.key, finding.problem)))


def build_report(
    first: Tally, last: Tally, pending: int, *, repaired: bool, unlinked: int, held_back: int
) -> CheckReport:
    """Report what the first look met, and what the last one, which may be the same, left."""
    return CheckReport(
        items=last.items,
        catalogs=last.catalogs,
        files=last.files,
        pending=pending,
        awaiting_removal=last.awaiting_removal,
        problems=first.problems,
        unknown_objects=first.unknown_objects,
        unread=last.unread,
        mendable=first.mendable,
        findings=first.sort_findings(),
        repaired=repaired,
        looked_again=last is not first,
        left=last.problems,
        left_findings=last.sort_findings() if last is not first else (),
        unlinked=unlinked,
        held_back=held_back,
    )


_LONGEST_REASON = 300


class CouldNotRead(Exception):
    """An object or a listing could not be looked at; no ``CloudmaskError``, so that none is taken for it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.finding = Finding(Problem.COULD_NOT_READ, key, reason)


@contextmanager
def looking_at(key: str) -> Iterator[None]:
    """Turn whatever a store raises into ``CouldNotRead``."""
    try:
        yield
    except CouldNotRead:
        raise
    except Exception as error:  # an unknown error is doubt as well
        raise CouldNotRead(key, explain_error(key, error)) from error


def read(store: ObjectStore, key: str) -> StoredObject | None:
    """Return the object, or None where the store says that there is none.

    Raises:
        CouldNotRead: it says neither.
    """
    with looking_at(key):
        return store.read_object(key)


def list_objects(store: ObjectStore, prefix: str) -> Iterator[ObjectInfo]:
    """List the objects below ``prefix``, in key order.

    Raises:
        CouldNotRead: the listing failed, perhaps after some of them.
    """
    with looking_at(prefix):
        yield from store.list_objects(prefix)


def find_absence(store: ObjectStore, key: str) -> Finding | None:
    """Return None where a key that no listing showed is not there; else the doubt about it."""
    try:
        if read(store, key) is None:
            return None
    except CouldNotRead as error:
        return error.finding
    return Finding(Problem.COULD_NOT_READ, key, "is there, and a listing of its folder does not show it")


def explain_error(key: str, error: Exception) -> str:
    """Say in one line why ``key`` could not be read or written."""
    text = " ".join(str(error).split())
    if not isinstance(error, CloudmaskError):
        text = f"{type(error).__name__}: {text}"
    return text.removeprefix(f"{key}: ")[:_LONGEST_REASON]
