"""What a run shows while it goes on, and the events it emits for automations."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.events import emit_event

from flows.ingestion import Observer, SilentObserver
from flows.printable import make_printable
from flows.report import SceneOutcome, SceneState
from flows.stac.titles import build_item_title

observer_of_run: ContextVar[Observer | None] = ContextVar("observer_of_run", default=None)
"""Who is told how a flow run in this process goes on; an observer is no parameter."""
UPDATE_EVERY_S = 5.0
"""Between two updates of the progress that the server shows."""
_EVENTS = {SceneState.PUBLISHED: "cloudmask.scene.published", SceneState.FAILED: "cloudmask.scene.failed"}
WITHDRAWN_EVENT = "cloudmask.scene.withdrawn"


class RunObserver:
    """Emits an event for each scene that was published or failed; keeps the run's progress artifact."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self._found = self._ended = 0
        self._artifact: UUID | None = None
        self._updated = 0.0
        self.newest: SceneOutcome | None = None
        """The most recently taken scene that was published."""

    def scenes_found(self, count: int) -> None:
        """Lengthen the way to go."""
        self._inner.scenes_found(count)
        self._found += count
        if self._artifact is None:
            # Called from a synchronous flow, it gives no coroutine.
            self._artifact = cast(
                UUID,
                create_progress_artifact(0.0, key="cloudmask-progress", description="Scenes of the run"),
            )

    def scene_ended(self, outcome: SceneOutcome) -> None:
        """Go on; tell whoever listens to the server's events."""
        self._inner.scene_ended(outcome)
        self._ended += 1
        if outcome.state in _EVENTS and not outcome.held:
            _emit(_EVENTS[outcome.state], outcome.id, {"reason": outcome.reason, "item": outcome.item_key})
        if outcome.state is SceneState.PUBLISHED:
            newest = self.newest
            if newest is None or build_item_title(outcome.id) > build_item_title(newest.id):
                self.newest = outcome
        if time.monotonic() - self._updated > UPDATE_EVERY_S:
            self.update()

    def update(self) -> None:
        """Show how far the run is."""
        self._updated = time.monotonic()
        if self._artifact is not None and self._found:
            update_progress_artifact(self._artifact, 100.0 * self._ended / self._found)


@contextmanager
def observe_run() -> Iterator[RunObserver]:
    """The observer of the current flow run."""
    observer = RunObserver(observer_of_run.get() or SilentObserver())
    try:
        yield observer
    finally:
        observer.update()


def emit_withdrawn(ids: Iterable[str]) -> None:
    """Tell of scenes that were taken out of the catalog."""
    for scene_id in ids:
        _emit(WITHDRAWN_EVENT, scene_id, {})


def _emit(event: str, scene_id: str, payload: dict[str, str]) -> None:
    shown = make_printable(scene_id)
    resource = {"prefect.resource.id": f"cloudmask.scene.{shown}", "prefect.resource.name": shown}
    emit_event(event, resource=resource, payload=payload)
