"""What a check of the published catalog found."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

MOST_FINDINGS = 1000
"""Findings kept in full; further ones are counted, so that a ruined catalog still fits in memory."""


class Problem(StrEnum):
    """What can be wrong."""

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
    ORPHAN = "orphan"
    STRAY = "stray"
    STALE_MARKER = "stale-marker"


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

    ``pending`` counts items that living writers are publishing; ``awaiting_removal`` counts objects
    that are of no use any more and are kept until their grace period is over. A repair mends every
    problem but ``strays``, which are not ours to remove.
    """

    items: int
    catalogs: int
    files: int
    pending: int
    awaiting_removal: int
    problems: int
    strays: int
    findings: tuple[Finding, ...]
    repaired: bool

    @property
    def is_whole(self) -> bool:
        """Whether the catalog is now as it must be."""
        return self.problems == 0 or (self.repaired and self.strays == 0)


@dataclass(slots=True)
class Tally:
    """Counts and findings while a check runs; safe to share between threads."""

    items: int = 0
    catalogs: int = 0
    files: int = 0
    awaiting_removal: int = 0
    problems: int = 0
    strays: int = 0
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
                self.strays += finding.problem is Problem.STRAY
                if len(self.findings) < MOST_FINDINGS:
                    self.findings.append(finding)

    def close(self, pending: int, *, repaired: bool) -> CheckReport:
        """The report; findings in order of key, whichever thread came first."""
        findings = sorted(self.findings, key=lambda finding: (finding.key, finding.problem))
        return CheckReport(
            self.items,
            self.catalogs,
            self.files,
            pending,
            self.awaiting_removal,
            self.problems,
            self.strays,
            tuple(findings),
            repaired,
        )
