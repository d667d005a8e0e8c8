"""What a mosaic may read, and by which rules."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.adapters.asset_reader import AssetReader
from flows.adapters.hosts import PLANETARY_COMPUTER_HOSTS
from flows.adapters.local_store import LocalStore
from flows.adapters.sas import renew_href, sign_href
from flows.errors import SettingsError, StoreRefused
from flows.loopback import LOOPBACK_HOSTS
from flows.mosaic.driver import CheckedDriver
from flows.mosaic.observation import Observation
from flows.ports import ObjectReader
from flows.settings import Settings

_READERS = 16
"""Masks fetched side by side: requests wait for the network, not for the processor."""


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """Masks as local files: the folder below which they stand, and each one's path by item id."""

    folder: Path
    paths: Mapping[str, str]


@contextmanager
def open_masks(store: ObjectReader, observations: Sequence[Observation]) -> Iterator[MaskFiles]:
    """The masks where they stand; those of no directory in a temporary one: a full tile's takes 0.3 MB.

    Raises:
        StoreRefused: a mask is not in the store.
    """
    if isinstance(store, LocalStore):
        yield MaskFiles(store.root, {each.id: str(store.root / each.mask_key) for each in observations})
        return
    with tempfile.TemporaryDirectory(prefix="cloudmask-") as name:
        folder = Path(name).resolve()

        def copy(observation: Observation) -> tuple[str, str]:
            stored = store.read_object(observation.mask_key)
            if stored is None:
                raise StoreRefused(
                    f"{store.url}: the mask of {observation.id} is missing; run cloudmask check --repair"
                )
            path = folder / f"{observation.id}.tif"
            path.write_bytes(stored.body)
            return observation.id, str(path)

        with ThreadPoolExecutor(_READERS) as pool:
            yield MaskFiles(folder, dict(pool.map(copy, observations)))


def build_driver(
    masks: MaskFiles, sources: AssetReader, observations: Sequence[Observation]
) -> CheckedDriver:
    """Reads masks, and what stands in the same folder, by that folder's rule; all else by ``sources``."""
    item_ids = {href: each.id for each in observations for href in each.hrefs.values()}
    item_ids |= {path: item_id for item_id, path in masks.paths.items()}
    return CheckedDriver(
        ((f"{masks.folder}/", AssetReader(local_root=masks.folder)), ("", sources)), item_ids
    )


def build_source_reader(store: ObjectReader, settings: Settings, files: Path | None) -> AssetReader:
    """Reads source assets from where the source's and the store's items may point to, and below ``files``.

    Raises:
        SettingsError: ``files`` is no folder.
    """
    if files is not None and not files.is_dir():
        raise SettingsError(f"--files {files}: no such folder")
    places = (settings.stac_api_url, *([store.url] if store.url.startswith("http") else ()))
    hosts = {urlsplit(place).hostname or "" for place in places}
    return AssetReader(
        sign_href,
        files.resolve() if files is not None else None,
        renew=renew_href,
        hosts=PLANETARY_COMPUTER_HOSTS | hosts,
        allow_loopback=not hosts.isdisjoint(LOOPBACK_HOSTS),
    )
