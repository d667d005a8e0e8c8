"""What a run leaves to be looked at."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_image_artifact, create_table_artifact

from flows.errors import StoreError
from flows.printable import escape_markdown
from flows.report import Report, SceneOutcome
from flows.request import IngestRequest
from flows.stac.layout import PREVIEW_ASSET
from flows.wiring import Wiring

LARGEST_PREVIEW = 256 << 10
"""Bytes of a picture that may be put into the server's database, where no URL shows it."""

logger = logging.getLogger(__name__)


def leave_report(wiring: Wiring, report: Report, newest: SceneOutcome | None) -> None:
    """The table of the run's scenes, and the preview of the newest mask."""
    create_table_artifact(key="cloudmask-run", table=_report_rows(report), description=report.summary)
    url = _find_preview(wiring, newest.item_key) if newest else None
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


def _find_preview(wiring: Wiring, item_key: str) -> str | None:
    """A URL that shows the preview of a published item: its public one, else one that holds its bytes."""
    try:
        stored = wiring.store.read_object(item_key)
        if stored is None:
            return None
        href = str(json.loads(stored.body)["assets"][PREVIEW_ASSET]["href"])
        if href.startswith("https://"):
            return href
        picture = wiring.store.read_object(f"{item_key.rpartition('/')[0]}/{href.rpartition('/')[2]}")
    except (StoreError, ValueError, LookupError, TypeError) as error:
        logger.info("%s: no preview to show: %s", item_key, error)
        return None
    if picture is None or len(picture.body) > LARGEST_PREVIEW:
        return None
    return f"data:image/png;base64,{base64.b64encode(picture.body).decode()}"
