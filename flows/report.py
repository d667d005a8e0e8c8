"""What a run did, scene by scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class SceneState(StrEnum):
    """How a run left a scene."""

    PUBLISHED = "published"
    SKIPPED = "skipped"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SceneOutcome:
    """One scene's end in this run; ``reason`` is empty for a published or skipped one."""

    id: str
    state: SceneState
    reason: str = ""
    retryable: bool = False
    error_class: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of ``ingest``, ``watch`` and ``retry``; its JSON form is fixed by docs/contract.md."""

    published: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    waiting: tuple[SceneOutcome, ...] = ()
    failed: tuple[SceneOutcome, ...] = ()
    withdrawn: tuple[str, ...] = ()
    seconds: float = 0.0
    transfer: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of scenes that the run looked at."""
        return len(self.published) + len(self.skipped) + len(self.waiting) + len(self.failed)

    @property
    def summary(self) -> str:
        """One line for people: ``3 published, 1 waiting in 2.1 s``."""
        counts = {
            "published": len(self.published),
            "skipped": len(self.skipped),
            "waiting": len(self.waiting),
            "failed": len(self.failed),
            "withdrawn": len(self.withdrawn),
        }
        text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"{text or 'no scene matches'} in {self.seconds:.1f} s"

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        document: dict[str, Any] = {
            "published": list(self.published),
            "skipped": list(self.skipped),
            "waiting": [{"id": scene.id, "reason": scene.reason} for scene in self.waiting],
            "failed": [
                {"id": scene.id, "error": scene.reason, "retryable": scene.retryable} for scene in self.failed
            ],
            "withdrawn": list(self.withdrawn),
            "seconds": round(self.seconds, 3),
        }
        if self.transfer:
            document["transfer"] = self.transfer
        return document


def build_report(
    outcomes: Iterable[SceneOutcome], seconds: float, transfer: dict[str, Any] | None = None
) -> Report:
    """The outcomes by state, each list ordered by scene id so that equal runs report equally."""
    by_state: dict[SceneState, list[SceneOutcome]] = {state: [] for state in SceneState}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.id):
        by_state[outcome.state].append(outcome)
    return Report(
        published=tuple(outcome.id for outcome in by_state[SceneState.PUBLISHED]),
        skipped=tuple(outcome.id for outcome in by_state[SceneState.SKIPPED]),
        waiting=tuple(by_state[SceneState.WAITING]),
        failed=tuple(by_state[SceneState.FAILED]),
        seconds=seconds,
        transfer=transfer or {},
    )
