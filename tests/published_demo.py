"""The demo's catalog, published once for tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pc_cloudmask.demo.demo import ARCHIVE_FOLDER, build_demo_request
from pc_cloudmask.demo.scenes import SAMPLE_SCENES
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.ingest import ingest
from pc_cloudmask.runs.request import IngestRequest
from pc_cloudmask.runs.runners import ThreadRunner


def build_request(store: Path, sample_items: Path) -> IngestRequest:
    """Return the demo's request for ``store``, whose sample archive is a copy of that of ``sample_items``."""
    copy_catalog(sample_items.parent, store / ARCHIVE_FOLDER)
    return build_demo_request(None, store)


def publish_demo(store: Path, sample_items: Path) -> Path:
    """Publish the demo into ``store``, the sample scenes and their sources; return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        request = build_request(store, sample_items)
        context = RunContext.of(request)
        report = ingest(context, request, ThreadRunner(2, retry_delay_s=0))
    assert len(report.published) == len(SAMPLE_SCENES)
    assert request.store is not None
    return Path(request.store)


def copy_catalog(root: Path, target: Path) -> Path:
    """The catalog at ``root`` once more at ``target``: documents copied, rasters as links to the same files.

    A test may replace or remove any file of it, and rewrite any document in place.
    """
    for path in root.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.hardlink_to(path) if path.suffix == ".tif" else copy.write_bytes(path.read_bytes())
    return target
