"""The main job: find items, publish each, finalise once."""

from __future__ import annotations

import time

from flows.ingestion import Ingestion, Observer
from flows.report import Report, build_report
from flows.runners import Runner
from flows.scene.query import SceneQuery
from flows.unlisted_scenes import leave_unlisted
from flows.wiring import Wiring


def ingest(
    wiring: Wiring,
    query: SceneQuery,
    runner: Runner,
    observer: Observer | None = None,
    *,
    force: bool = False,
) -> Report:
    """Publish the mask of every scene that ``query`` finds and the catalog lacks.

    One scene's failure stops no other; it is in the report.

    Raises:
        CloudmaskError: the run as a whole cannot go on: settings, store or source.
    """
    started = time.monotonic()
    ingestion = Ingestion(wiring, runner, observer, force=force)
    ingestion.begin()
    ingestion.publish(wiring.source.find_items(query))
    if query.names_only_ids:
        ingestion.note(leave_unlisted(wiring.store, ingestion.read_unlisted(query.ids)))
    seconds = time.monotonic() - started
    return build_report(ingestion.outcomes, seconds, transfer=wiring.read_transfer())
