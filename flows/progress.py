"""What a run shows while it goes on, and the events it emits for automations."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event

from pc_cloudmask.catalog.layout import build_item_title
from pc_cloudmask.errors import StoreError
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import Observer, SilentObserver
from pc_cloudmask.runs.report import Report, SceneOutcome, SceneState
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.scene.ids import PREVIEW_ASSET
from pc_cloudmask.text import escape_markdown, make_printable

#: Who is told how a flow run in this process goes on; an observer is no parameter.
observer_of_run: ContextVar[Observer | None] = ContextVar("observer_of_run", default=None)
#: Between two updates of the progress that the server shows.
UPDATE_EVERY_S = 5.0
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


#: Bytes of a picture that may be put into the server's database, where no URL shows it.
LARGEST_PREVIEW = 256 << 10
logger = logging.getLogger(__name__)


def leave_report(context: RunContext, report: Report, newest: SceneOutcome | None) -> None:
    """The table of the run's scenes, and the preview of the newest mask."""
    create_table_artifact(key="cloudmask-run", table=_report_rows(report), description=report.summary)
    url = _find_preview(context, newest.item_key) if newest else None
    if newest and url:
        create_image_artifact(url, key="cloudmask-preview", description=escape_markdown(newest.id))


def leave_shards(shards: Sequence[tuple[IngestRequest, str]]) -> None:
    """The table of a backfill's flow runs."""
    rows = [
        {"scenes": escape_markdown(shard.title), "flow run": escape_markdown(run)} for shard, run in shards
    ]
    create_table_artifact(key="cloudmask-backfill", table=rows, description=f"{len(rows)} shards")


def _report_rows(report: Report) -> list[dict[str, Any]]:
    done = [(scene_id, "published", "") for scene_id in report.published]
    done += [(scene_id, "skipped", "") for scene_id in report.skipped]
    done += [(scene_id, "withdrawn", "") for scene_id in report.withdrawn]
    done += [
        (outcome.id, str(outcome.state), outcome.reason)
        for outcome in (*report.waiting, *report.failed, *report.held_back)
    ]
    done += [("", "problem", problem) for problem in report.problems]
    # Prefect's pages take every cell for Markdown.
    columns = ("scene", "state", "reason")
    return [dict(zip(columns, map(escape_markdown, row), strict=True)) for row in done]


def _find_preview(context: RunContext, item_key: str) -> str | None:
    """A URL that shows the preview of a published item: its public one, else one that holds its bytes."""
    try:
        stored = context.store.read_object(item_key)
        if stored is None:
            return None
        href = str(json.loads(stored.body)["assets"][PREVIEW_ASSET]["href"])
        if href.startswith("https://"):
            return href
        picture = context.store.read_object(f"{item_key.rpartition('/')[0]}/{href.rpartition('/')[2]}")
    except (StoreError, ValueError, LookupError, TypeError) as error:
        logger.info("%s: no preview to show: %s", item_key, error)
        return None
    if picture is None or len(picture.body) > LARGEST_PREVIEW:
        return None
    return f"data:image/png;base64,{base64.b64encode(picture.body).decode()}"
