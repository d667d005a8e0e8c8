"""Published data as Prefect assets: each item, made from its source item, and the collection, made from its items.

A key is the URI of the document in the store or at the source, never with a signature. Characters that Prefect does not
allow in keys become ``_``, and a digest of the URI then keeps keys distinct.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.context import AssetContext
from prefect.types.names import MAX_ASSET_KEY_LENGTH, RESTRICTED_ASSET_CHARACTERS

from pc_cloudmask.catalog.layout import COLLECTION_KEY, build_item_title
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.runs.report import Report, SceneOutcome, SceneState
from pc_cloudmask.source.fields import Item
from pc_cloudmask.text import unsigned_href

#: What makes the assets.
MAKER = "pc-cloudmask"
#: Name of the task run that makes the collection.
COLLECTION_TASK = "collection"
#: Items that the collection's asset names as its sources: an event may have at most 100 related resources.
MOST_SOURCES = 50
_RESTRICTED = re.compile(f"[{re.escape(''.join(RESTRICTED_ASSET_CHARACTERS))}]|[^\x21-\x7e]")
_SCHEME = re.compile("[a-z0-9]+://")
_DIGEST_LENGTH = 16


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
        return self._build(
            COLLECTION_KEY, "Cloud masks of Sentinel-2", "The STAC collection of all published masks."
        )

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
    sources: list[Asset | str] = [
        assets.build_item(each.id, each.item_key) for each in published[:MOST_SOURCES]
    ]
    told = publish_collection.with_options(assets=[collection], asset_deps=sources)
    told(collection.key, len(report.published), len(report.withdrawn))


def _find_self(item: Item) -> str | None:
    """Return the unsigned URL of an item's link to itself, if it has one."""
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "self" and isinstance(href := link.get("href"), str):
            return unsigned_href(href) if href.startswith(("https://", "http://")) else None
    return None
