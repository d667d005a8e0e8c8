"""What a run shows while it goes on, and the events it emits for automations."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Sequence
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
from pc_cloudmask.runs.gaps import GapReport
from pc_cloudmask.runs.report import Observer, Report, SceneOutcome, SceneState
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.scene.ids import PREVIEW_ASSET
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.text import escape_markdown, make_printable

#: Who is told how a flow run in this process goes on; an observer is no parameter.
observer_of_run: ContextVar[Observer | None] = ContextVar("observer_of_run", default=None)
#: Between two updates of the progress that the server shows.
UPDATE_EVERY_S = 5.0
_EVENTS = {SceneState.PUBLISHED: "cloudmask.scene.published", SceneState.FAILED: "cloudmask.scene.failed"}
WITHDRAWN_EVENT = "cloudmask.scene.withdrawn"
#: Bytes of a picture that may be put into the server's database, where no URL shows it.
LARGEST_PREVIEW = 256 << 10
#: Gaps that the server's page shows; the table in the store has them all.
SHOWN_GAPS = 200
logger = logging.getLogger(__name__)


class RunObserver(Observer):
    """Emits an event for each scene that was published or failed; keeps the run's progress artifact."""

    def __init__(self) -> None:
        self._inner = observer_of_run.get() or Observer()
        self._found = self._ended = 0
        self._artifact: UUID | None = None
        self._updated = 0.0
        #: The most recently taken scene that was published.
        self.newest: SceneOutcome | None = None

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
            self.newest = max(
                filter(None, (self.newest, outcome)), key=lambda each: build_item_title(each.id)
            )
        if time.monotonic() - self._updated > UPDATE_EVERY_S:
            self.update()

    def update(self) -> None:
        """Show how far the run is."""
        self._updated = time.monotonic()
        if self._artifact is not None and self._found:
            update_progress_artifact(self._artifact, 100.0 * self._ended / self._found)


def _emit(event: str, scene_id: str, payload: dict[str, str]) -> None:
    shown = make_printable(scene_id)
    resource = {"prefect.resource.id": f"cloudmask.scene.{shown}", "prefect.resource.name": shown}
    emit_event(event, resource=resource, payload=payload)


def leave_report(store: ObjectStore, report: Report, newest: SceneOutcome | None) -> None:
    """Leave a table of the run's scenes and the preview of the newest mask; emit an event for what was withdrawn."""
    for scene_id in report.withdrawn:
        _emit(WITHDRAWN_EVENT, scene_id, {})
    create_table_artifact(key="cloudmask-run", table=_report_rows(report), description=report.summary)
    url = _find_preview(store, newest.item_key) if newest else None
    if newest and url:
        create_image_artifact(url, key="cloudmask-preview", description=escape_markdown(newest.id))


def leave_shards(shards: Sequence[tuple[IngestRequest, str]]) -> None:
    """Leave a table of a backfill's flow runs."""
    rows = [
        {"scenes": escape_markdown(shard.title), "flow run": escape_markdown(run)} for shard, run in shards
    ]
    create_table_artifact(key="cloudmask-backfill", table=rows, description=f"{len(rows)} shards")


def leave_gaps(report: GapReport) -> None:
    """Leave a table of the first gaps of a census, and what was out of reach."""
    rows = [
        {
            "scene": f"{gap.scene.tile} {gap.scene.start:%Y-%m-%d %H:%M} {gap.scene.platform}",
            "lacking": ", ".join(gap.lacking),
            "having": ", ".join(gap.scene.holdings),
            "noted": f"{gap.state}: {gap.reason}" if gap.state else "",
        }
        for gap in report.gaps[:SHOWN_GAPS]
    ]
    rows += [{"scene": "", "lacking": "?", "having": "", "noted": problem} for problem in report.problems]
    table = [{name: escape_markdown(text) for name, text in row.items()} for row in rows]
    create_table_artifact(key="cloudmask-gaps", table=table, description=report.summary)


def _report_rows(report: Report) -> list[dict[str, Any]]:
    done = {"published": report.published, "skipped": report.skipped, "withdrawn": report.withdrawn}
    rows = [(scene_id, state, "") for state, ids in done.items() for scene_id in ids]
    left = (*report.waiting, *report.failed, *report.held_back)
    rows += [(outcome.id, str(outcome.state), outcome.reason) for outcome in left]
    rows += [("", "problem", problem) for problem in report.problems]
    # Prefect's pages take every cell for Markdown.
    columns = ("scene", "state", "reason")
    return [dict(zip(columns, map(escape_markdown, row), strict=True)) for row in rows]


def _find_preview(store: ObjectStore, item_key: str) -> str | None:
    """Return a URL that shows the preview of a published item: its public one, else one that holds its bytes."""
    try:
        stored = store.read_object(item_key)
        if stored is None:
            return None
        href = str(json.loads(stored.body)["assets"][PREVIEW_ASSET]["href"])
        if href.startswith("https://"):
            return href
        picture = store.read_object(f"{item_key.rpartition('/')[0]}/{href.rpartition('/')[2]}")
    except (StoreError, ValueError, LookupError, TypeError) as error:
        logger.info("%s: no preview to show: %s", item_key, error)
        return None
    if picture is None or len(picture.body) > LARGEST_PREVIEW:
        return None
    return f"data:image/png;base64,{base64.b64encode(picture.body).decode()}"
