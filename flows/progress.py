"""What a run leaves on Prefect's server: its name, progress, events, tables and pictures, and assets.

Published data are assets: each item, made from its source item, and the collection, made from its items. A key is the
URI of the document in the store or at the source, never with a signature. Characters that Prefect does not allow in
keys become ``_``, and a digest of the URI then keeps keys distinct.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.context import AssetContext
from prefect.events import emit_event
from prefect.runtime import deployment, flow_run
from prefect.types.names import MAX_ASSET_KEY_LENGTH, RESTRICTED_ASSET_CHARACTERS

from pc_cloudmask.catalog.layout import COLLECTION_KEY, build_item_title
from pc_cloudmask.errors import CloudmaskError, SettingsError, StoreError
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.gaps import GapReport
from pc_cloudmask.runs.report import Observer, Report, SceneOutcome, SceneState, write_metrics
from pc_cloudmask.runs.request import (
    AreaRequest,
    BackfillRequest,
    GapsRequest,
    IngestRequest,
    RunRequest,
    WatchRequest,
    shorten,
)
from pc_cloudmask.scene.scene import PREVIEW_ASSET, is_item_id
from pc_cloudmask.settings import read_clock
from pc_cloudmask.source.fields import Item
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.text import escape_markdown, make_printable, unsigned_href

#: What makes the assets.
MAKER = "pc-cloudmask"
#: Name of the task run that makes the collection.
COLLECTION_TASK = "collection"
#: Items that the collection's asset names as its sources: an event may have at most 100 related resources.
MOST_SOURCES = 50
_RESTRICTED = re.compile(f"[{re.escape(''.join(RESTRICTED_ASSET_CHARACTERS))}]|[^\x21-\x7e]")
_SCHEME = re.compile("[a-z0-9]+://")
_DIGEST_LENGTH = 16
#: The observer of a flow run in this process, because an observer cannot be a parameter.
observer_of_run: ContextVar[Observer | None] = ContextVar("observer_of_run", default=None)
#: Time between two updates of the progress that the server shows.
UPDATE_EVERY_S = 5.0
_EVENTS = {SceneState.PUBLISHED: "cloudmask.scene.published", SceneState.FAILED: "cloudmask.scene.failed"}
WITHDRAWN_EVENT = "cloudmask.scene.withdrawn"
QUARANTINED_EVENT = "cloudmask.scene.quarantined"
INCOMPLETE_EVENT = "cloudmask.run.incomplete"
#: Colours of cloud and shadow in a preview.
_COLORS = {"cloud": "pink", "shadow": "violet"}
#: Largest picture, in bytes, that may be stored in the server's database if no URL shows it.
LARGEST_PREVIEW = 256 << 10
#: Gaps shown on the server's page; the table in the store has all of them.
SHOWN_GAPS = 200
#: Scenes of a run shown on the server's page; the worker's log has all of them.
SHOWN_SCENES = 300
#: Limit on a name: an interval or a box given by a user may be any text.
LONGEST_NAME = 120
AnyRequest = TypeVar("AnyRequest", bound=RunRequest)
logger = logging.getLogger(__name__)


def build_key(uri: str) -> str:
    """Return a valid and unique Prefect key for ``uri``."""
    plain = unsigned_href(uri)
    key = _RESTRICTED.sub("_", plain)
    if key == plain and len(key) <= MAX_ASSET_KEY_LENGTH:
        return key
    digest = sha256(plain.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{key[: MAX_ASSET_KEY_LENGTH - _DIGEST_LENGTH - 1]}-{digest}"


@dataclass(frozen=True, slots=True)
class RunAssets:
    """The assets of one run: ``store`` is the URI of its store, ``source`` that of the source's items.

    With a ``public_url``, the assets link to the documents where readers find them.
    """

    store: str
    source: str
    public_url: str | None = None

    @classmethod
    def of(cls, context: RunContext) -> RunAssets:
        """Return the assets of a run."""
        settings, url = context.settings, context.store.url
        store = url if _SCHEME.match(url) else Path(url).as_uri()
        source = f"{settings.stac_api_url}/collections/{settings.collection}/items"
        return cls(store.rstrip("/"), source, settings.public_url)

    def build_item(self, item_id: str, key: str) -> Asset:
        """Return the asset of the published item at ``key`` in the store."""
        return self._build(key, build_item_title(item_id), item_id)

    def build_collection(self) -> Asset:
        """Return the asset of the published collection."""
        told = "The STAC collection of all published masks."
        return self._build(COLLECTION_KEY, "Cloud masks of Sentinel-2", told)

    def build_source(self, item: Item) -> Asset:
        """Return the asset of a source item: at its own link, or else where the source has its items."""
        uri = _find_self(item) or f"{self.source}/{item['id']}"
        return Asset(key=build_key(uri), properties=AssetProperties(name=str(item["id"]), url=uri))

    def _build(self, key: str, name: str, description: str) -> Asset:
        url = f"{self.public_url}/{key}" if self.public_url else None
        properties = AssetProperties(name=name, description=description, url=url)
        return Asset(key=build_key(f"{self.store}/{key}"), properties=properties)


def note_outcome(outcome: SceneOutcome) -> None:
    """Record in the task's asset how its scene ended: nothing is made if it waits or is already published.

    If a task ends with an error, Prefect itself records that its asset was not made.
    """
    context = AssetContext.get()
    if context is None:
        return
    if outcome.state is not SceneState.PUBLISHED:
        context.downstream_assets.clear()  # otherwise Prefect would report them as made
    for asset in context.downstream_assets:
        shares = {f"{name}_pct": share for name, share in outcome.cover_pct.items()}
        context.add_asset_metadata(asset.key, {**shares, "provisional": outcome.provisional})


@materialize(
    "cloudmask://collection",  # replaced in each run
    by=MAKER,
    name="publish-collection",
    task_run_name=COLLECTION_TASK,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_collection(key: str, published: int, withdrawn: int) -> None:
    """Record in Prefect what a run changed in the collection, whose catalogs are written batch by batch."""
    add_asset_metadata(key, {"published": published, "withdrawn": withdrawn})


def leave_collection(assets: RunAssets, report: Report, published: Sequence[SceneOutcome]) -> None:
    """Record the collection's asset, made from the newest ``published`` items, if the run changed anything."""
    if not (report.published or report.withdrawn):
        return
    collection = assets.build_collection()
    sources = [assets.build_item(each.id, each.item_key) for each in published[:MOST_SOURCES]]
    told = publish_collection.with_options(assets=[collection], asset_deps=[*sources])
    told(collection.key, len(report.published), len(report.withdrawn))


def _find_self(item: Item) -> str | None:
    """Return the unsigned URL of an item's link to itself, if it has one."""
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "self" and isinstance(href := link.get("href"), str):
            return unsigned_href(href) if href.startswith(("https://", "http://")) else None
    return None


def name_by(kind: type[AnyRequest]) -> Callable[[], str]:
    """Return a function that names a flow run after the request of this kind among its parameters."""

    def name() -> str:
        return describe(kind.model_validate((flow_run.parameters or {}).get("request") or {}))

    return name


def describe(request: RunRequest) -> str:
    """Return a name such as ``22KFV 2018-12`` or ``home, alps 2026-11-19/2026-11-29``."""
    if isinstance(request, IngestRequest):
        return request.title[:LONGEST_NAME]
    if isinstance(request, AreaRequest):
        with suppress(CloudmaskError):  # the run itself reports which setting is wrong
            return _describe_areas(request)[:LONGEST_NAME]
    return "no area to look at"


def _describe_areas(request: AreaRequest) -> str:
    settings, now = request.read_settings(), request.now or read_clock()
    areas = request.read_areas(settings)
    place = request.place or ", ".join(shorten(list(areas)))
    match request:
        case BackfillRequest():
            first, last = request.read_period()
        case GapsRequest():
            first, last = request.read_period(now)
        case WatchRequest():
            first, last = request.find_start(areas, settings, now), now
        case _:
            raise TypeError(type(request))
    return f"{place} {first:%Y-%m-%d}/{last or now:%Y-%m-%d}"


class RunObserver(Observer):
    """Emits an event for each scene that was published or failed, and updates the run's progress artifact."""

    def __init__(self) -> None:
        self._inner = observer_of_run.get() or Observer()
        self._found = self._ended = 0
        self._artifact: UUID | None = None
        self._updated = 0.0
        self._published: list[SceneOutcome] = []

    def scenes_found(self, count: int) -> None:
        """Add to the expected number of scenes."""
        self._inner.scenes_found(count)
        self._found += count
        if self._artifact is None:
            # Not a coroutine when called from a synchronous flow.
            begun = create_progress_artifact(0.0, key="cloudmask-progress", description="Scenes of the run")
            self._artifact = cast(UUID, begun)

    def scene_ended(self, outcome: SceneOutcome) -> None:
        """Update the progress, and emit an event on the server."""
        self._inner.scene_ended(outcome)
        self._ended += 1
        if outcome.state in _EVENTS and not outcome.held:
            self._emit_outcome(outcome)
        if outcome.state is SceneState.PUBLISHED:
            self._published.append(outcome)
        if time.monotonic() - self._updated > UPDATE_EVERY_S:
            self.update()

    @property
    def published(self) -> list[SceneOutcome]:
        """The scenes that were published, the most recently taken first."""
        return sorted(self._published, key=lambda each: build_item_title(each.id), reverse=True)

    def _emit_outcome(self, outcome: SceneOutcome) -> None:
        """Emit what happened to a scene, and whether it is quarantined because its item is proven wrong."""
        payload = {"reason": outcome.reason, "item": outcome.item_key}
        _emit(_EVENTS[outcome.state], outcome.id, payload)
        if outcome.state is SceneState.FAILED and not outcome.retryable and is_item_id(outcome.id):
            _emit(QUARANTINED_EVENT, outcome.id, payload)

    def update(self) -> None:
        """Update the progress shown."""
        self._updated = time.monotonic()
        if self._artifact is not None and self._found:
            update_progress_artifact(self._artifact, 100.0 * self._ended / self._found)


def _emit(event: str, scene_id: str, payload: dict[str, str]) -> None:
    shown = make_printable(scene_id)
    resource = {"prefect.resource.id": f"cloudmask.scene.{shown}", "prefect.resource.name": shown}
    emit_event(event, resource=resource, payload=payload)


def write_figures(context: RunContext, report: Report) -> None:
    """Write the run's metrics to a file named after its flow, next to the one in the settings.

    Runs of a worker share the settings, and a backfill must not overwrite the file of a watch. A run without a
    deployment belongs to a command, which writes its metrics itself.
    """
    path = context.settings.metrics
    if path is None or deployment.id is None:
        return
    flow = str(flow_run.flow_name)
    try:
        write_metrics(path.with_stem(f"{path.stem}-{flow}"), flow, report, read_clock())
    except SettingsError as error:
        logger.warning("%s", error)


def tell_problems(problems: Sequence[str]) -> None:
    """Emit an event for a run that could not reach a source, an area or a catalogue."""
    if problems:
        run_id, name = str(flow_run.id), str(flow_run.name)
        resource = {"prefect.resource.id": f"cloudmask.run.{run_id}", "prefect.resource.name": name}
        emit_event(INCOMPLETE_EVENT, resource=resource, payload={"problems": list(problems)})


def leave_report(context: RunContext, report: Report, observer: RunObserver) -> None:
    """Save a table of the scenes and the newest preview; report the collection, withdrawals and unreachable sources."""
    for scene_id in report.withdrawn:
        _emit(WITHDRAWN_EVENT, scene_id, {})
    tell_problems(report.problems)
    write_figures(context, report)
    published = observer.published
    rows = build_rows(report, published, partial(link_scene, context))
    shown = f"; {SHOWN_SCENES} of {len(rows)} rows are shown" if len(rows) > SHOWN_SCENES else ""
    create_table_artifact(
        key="cloudmask-run", table=rows[:SHOWN_SCENES], description=f"{report.summary}{shown}"
    )
    leave_collection(RunAssets.of(context), report, published)
    if published:
        _leave_preview(context.store, published[0])


def _leave_preview(store: ObjectStore, newest: SceneOutcome) -> None:
    """Save the picture of a mask, if it can be shown, as Markdown.

    An image artifact would print its URL below the picture: for a data URL, all of its bytes.
    """
    url = _find_preview(store, newest.item_key)
    if url:
        shares = (f"{_COLORS[name]}: {name} {share:.1f} %" for name, share in newest.cover_pct.items())
        picture = f"![The newest mask]({url})\n\n{', '.join(shares)}"
        create_markdown_artifact(picture, key="cloudmask-preview", description=escape_markdown(newest.id))


def leave_shards(shards: Sequence[tuple[IngestRequest, str]]) -> None:
    """Save a table of a backfill's flow runs."""
    rows = [{"scenes": escape_markdown(each.title), "flow run": escape_markdown(run)} for each, run in shards]
    create_table_artifact(key="cloudmask-backfill", table=rows, description=f"{len(rows)} shards")


def leave_gaps(report: GapReport) -> None:
    """Save a table of the first gaps of a census, and what could not be reached."""
    tell_problems(report.problems)
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


def link_scene(context: RunContext, scene_id: str, item_key: str) -> str:
    """Return links to a scene's mask, if the catalog has a public URL, and to its item, if the source was asked."""
    settings, links = context.settings, []
    if settings.public_url and item_key:
        links.append(f"[mask]({settings.public_url}/{item_key})")
    if context.items is None and is_item_id(scene_id):
        source = f"{settings.stac_api_url}/collections/{settings.collection}/items"
        links.append(f"[source]({source}/{scene_id})")
    return " ".join(links)


def build_rows(
    report: Report, published: Iterable[SceneOutcome], link: Callable[[str, str], str]
) -> list[dict[str, str]]:
    """Return the rows of a run's table: first what may need attention, last what was left unchanged."""
    rows = [_build_row("problem", reason=problem) for problem in report.problems]
    for outcome in (*report.failed, *report.waiting, *published, *report.held_back):
        state = "held back" if outcome.held else str(outcome.state)
        row = _build_row(state, outcome.id, outcome.reason, outcome.cover_pct)
        rows.append({**row, "links": link(outcome.id, outcome.item_key)})
    named = {"withdrawn": report.withdrawn, "skipped": report.skipped}
    rows += [_build_row(state, scene_id) for state, ids in named.items() for scene_id in ids]
    empty = {name for name in ("links", "reason") if not any(row[name] for row in rows)}
    return [{name: text for name, text in row.items() if name not in empty} for row in rows]


def _build_row(
    state: str, scene_id: str = "", reason: str = "", cover_pct: Mapping[str, float] = MappingProxyType({})
) -> dict[str, str]:
    """Return a row without links; Prefect's pages interpret every cell as Markdown."""
    shares = {f"{name} %": f"{cover_pct[name]:.1f}" if name in cover_pct else "" for name in _COLORS}
    text = {"scene": escape_markdown(scene_id), "state": state, **shares, "links": ""}
    return {**text, "reason": escape_markdown(reason)}


def _find_preview(store: ObjectStore, item_key: str) -> str | None:
    """Return a URL that shows the preview of a published item: a public one, or else a data URL."""
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
