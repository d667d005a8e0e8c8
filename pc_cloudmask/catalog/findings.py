"""What a check of the published catalog finds, and how it reads the store."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter

from pc_cloudmask.catalog.fields import read_document
from pc_cloudmask.catalog.walk import holds_object, list_links
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore, StoredObject

#: Findings kept in full. Further ones are only counted, so that a badly damaged catalog fits in memory.
MOST_FINDINGS = 1000
_LONGEST_REASON = 300


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
    FOREIGN_LINKS = "foreign-links"
    NOT_OPTIMIZED = "not-optimized"
    COULD_NOT_READ = "could-not-read"
    COULD_NOT_REPAIR = "could-not-repair"

    @property
    def is_mendable(self) -> bool:
        """Whether a repair acts on it."""
        return self not in _LEFT_ALONE


#: Problems that leave an item sound.
HARMLESS = frozenset({Problem.DOUBTFUL_SOURCE, Problem.FOREIGN_LINKS, Problem.NOT_OPTIMIZED})
_LEFT_ALONE = HARMLESS | {Problem.UNKNOWN_OBJECT, Problem.COULD_NOT_READ, Problem.COULD_NOT_REPAIR}


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

    - ``pending``: items that live writers are publishing.
    - ``awaiting_removal``: objects that are no longer needed and are kept until their grace period is over.
    - ``problems``, ``findings``: what the first pass found. Unknown objects do no harm and are no problem, so they are
      only in ``findings``. A repair acts on the ``mendable`` ones.
    - ``left``, ``left_findings``: what the pass after a repair found; without a repair, ``left`` equals ``problems``.
    - ``unread``: what the last pass could not read.
    - ``unlinked``: broken items that the repair took out of the catalog; ``held_back`` are those beyond its limit.
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
        """Whether the last pass found nothing but unknown objects."""
        return self.left == 0


@dataclass(slots=True)
class Tally:
    """What one pass counted and found; safe to share between threads."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: Counter[Problem] = field(default_factory=Counter)
    _findings: list[Finding] = field(default_factory=list)
    _unknown: list[Finding] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        """Add to the counts of items, files, catalogs and objects awaiting removal."""
        with self._lock:
            self.counts.update(counts)

    def report(self, *findings: Finding) -> None:
        """Add the findings."""
        with self._lock:
            self.problems.update(finding.problem for finding in findings)
            for finding in findings:
                # Kept apart, so that thousands of files of another program crowd out no problem.
                kept = self._unknown if finding.problem is Problem.UNKNOWN_OBJECT else self._findings
                if len(kept) < MOST_FINDINGS:
                    kept.append(finding)

    @property
    def problem_count(self) -> int:
        """Number of problems found, not counting objects that are not the catalog's."""
        return self.problems.total() - self.problems[Problem.UNKNOWN_OBJECT]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings that were kept, sorted by key, whichever thread added them first."""
        return tuple(sorted(self._findings + self._unknown, key=attrgetter("key", "problem")))


def build_report(first: Tally, last: Tally, *, repaired: bool, unlinked: int, held_back: int) -> CheckReport:
    """Return what the first pass found and what the last one, which may be the same, left."""
    looked_again = last is not first
    return CheckReport(
        **{name: last.counts[name] for name in ("items", "catalogs", "files", "pending", "awaiting_removal")},
        problems=first.problem_count,
        unknown_objects=first.problems[Problem.UNKNOWN_OBJECT],
        unread=last.problems[Problem.COULD_NOT_READ],
        mendable=sum(number for problem, number in first.problems.items() if problem.is_mendable),
        findings=first.findings,
        repaired=repaired,
        looked_again=looked_again,
        left=last.problem_count,
        left_findings=last.findings if looked_again else (),
        unlinked=unlinked,
        held_back=held_back,
    )


class CouldNotRead(Exception):
    """Raised by the readers below, and by all checks that use them, if answers fail or contradict each other.

    It is no ``CloudmaskError``, so it is never handled as one.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.finding = Finding(Problem.COULD_NOT_READ, key, reason)


@contextmanager
def looking_at(key: str) -> Iterator[None]:
    """Turn anything that a store raises into ``CouldNotRead``."""
    try:
        yield
    except CouldNotRead:
        raise
    except Exception as error:  # an unknown error leaves doubt as well
        raise CouldNotRead(key, explain_error(key, error)) from error


def read(store: ObjectStore, key: str) -> StoredObject | None:
    """Return the object, or None if every kind of request says that it does not exist."""
    with looking_at(key):
        stored = store.read_object(key)
        if stored is None and holds_object(store, key):
            stored = store.read_object(key)  # a writer may have put it in the meantime
            if stored is None:
                raise CouldNotRead(key, "is there, and the store says that it is not when it is read")
        return stored


def read_catalog(store: ObjectStore, key: str) -> StoredObject | None:
    """Return the object as ``read`` does; if it is not a catalog, it is still what the store really holds."""
    stored = read(store, key)
    if stored is not None and list_links(read_document(stored), "child") is None:
        check_length(store, stored)
    return stored


def check_length(store: ObjectStore, stored: StoredObject) -> None:
    """Check that an unreadable answer is as long as the listing says: an error page or a partial answer is not."""
    sizes = [info.size for info in list_objects(store, stored.key) if info.key == stored.key]
    if sizes != [len(stored.body)]:
        said = f"its listing says {sizes[0]}" if sizes else "no listing shows it"
        raise CouldNotRead(stored.key, f"{len(stored.body)} bytes came that are no document, {said}")


def is_there(store: ObjectStore, key: str) -> bool:
    """Return True if the store has the object, False if every kind of request says that it does not."""
    with looking_at(key):
        return holds_object(store, key)


def list_objects(store: ObjectStore, prefix: str) -> Iterator[ObjectInfo]:
    """Yield the objects below ``prefix``, in key order; the listing may fail after it gave some of them."""
    with looking_at(prefix):
        yield from store.list_objects(prefix)


def find_absence(store: ObjectStore, key: str) -> Finding | None:
    """Return None if a key that no listing showed is proven absent, else a finding that it is in doubt."""
    try:
        if read(store, key) is None:
            return None
    except CouldNotRead as error:
        return error.finding
    return Finding(Problem.COULD_NOT_READ, key, "is there, and a listing of its folder does not show it")


def explain_error(key: str, error: Exception) -> str:
    """Return one line that says why ``key`` could not be read or written."""
    text = " ".join(str(error).split())
    if not isinstance(error, CloudmaskError):
        text = f"{type(error).__name__}: {text}"
    return text.removeprefix(f"{key}: ")[:_LONGEST_REASON]
