"""No path of this machine is published where others read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.fields import Item, SceneSource
from pc_cloudmask.storage.stores import read_path


def check_reachable(source: SceneSource, query: SceneQuery, settings: Settings, name: str | None) -> None:
    """Raise if readers of the catalog could not reach an asset of what ``query`` finds in the items ``name``.

    Raises:
        SettingsError: an asset is a local file, and the store a bucket or one with a public URL; files within
            the store itself are published with it.
    """
    store, public_url = settings.store, settings.public_url
    in_bucket = store.startswith("s3:")
    if name is None or not (in_bucket or public_url) or source.local_root is None:
        return
    root = None if in_bucket else read_path(store).resolve()
    for item in source.find_items(query):
        for asset, path in _list_local_assets(item):
            if root is None or not path.is_relative_to(root):
                raise SettingsError(
                    f"--items {name}: asset {asset} of {item.get('id')!r:.100} is a local file, "
                    f"which readers of {public_url or store} cannot reach: upload it and give its https or "
                    "s3 href, or publish into a directory without CLOUDMASK_PUBLIC_URL"
                )


def _list_local_assets(item: Item) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of the item's assets that are files of this machine."""
    assets = item.get("assets")
    for name, asset in assets.items() if isinstance(assets, dict) else ():
        href = asset.get("href") if isinstance(asset, dict) else None
        if isinstance(href, str) and href.startswith("/"):
            yield name, Path(href)
