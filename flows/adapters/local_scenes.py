"""The sample archive: small synthetic scenes whose clouds and shadows are known."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from flows.adapters.sample_files import write_rasters
from flows.adapters.sample_items import build_item
from flows.adapters.sample_rasters import build_scene_rasters
from flows.adapters.sample_scenes import SAMPLE_SCENES, SampleScene
from flows.adapters.sample_terrain import Landscape, build_landscape
from flows.errors import SettingsError
from flows.ports import Item
from flows.stac.item_hrefs import map_hrefs

logger = logging.getLogger(__name__)

ITEMS_NAME = "items.json"
_MARKER_NAME = "SYNTHETIC.txt"
_MARKER = "Synthetic Sentinel-2 scenes made by pc-cloudmask. This folder may be deleted at any time.\n"
_VERSION_KEY, _VERSION = "sample_archive_version", 2
"""Raised with every change of a pixel or an item, so that archives on disk are made anew."""


def build_sample_archive(folder: Path) -> Path:
    """Path of the archive's ItemCollection, whose asset hrefs are relative to it; made if need be.

    A complete archive in ``folder`` is left alone; one that is damaged or of another version is
    replaced. The bytes are the same every time.

    Raises:
        SettingsError: ``folder`` holds something else, or cannot be written.
    """
    if _is_complete(folder):
        return folder / ITEMS_NAME
    if folder.exists() and not _is_ours(folder):
        raise SettingsError(f"{folder}: is no sample archive and not empty; name a new or an empty folder")
    logger.info("making the sample archive in %s", folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            partial = Path(temporary) / folder.name
            _write_archive(partial)
            _move_into_place(partial, folder)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder / ITEMS_NAME


def _is_complete(folder: Path) -> bool:
    """Whether every file is there in the size that the archive's own list says."""
    try:
        document = orjson.loads((folder / ITEMS_NAME).read_bytes())
        if document[_VERSION_KEY] != _VERSION:
            return False
        return all((folder / name).stat().st_size == size for name, size in document["files"].items())
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return False


def _is_ours(folder: Path) -> bool:
    """Whether ``folder`` may be replaced: it is empty, or what an earlier run made."""
    return folder.is_dir() and ((folder / _MARKER_NAME).is_file() or not any(folder.iterdir()))


def _write_archive(folder: Path) -> None:
    folder.mkdir()
    (folder / _MARKER_NAME).write_text(_MARKER, "utf-8")
    landscapes = {
        tile: build_landscape(tile) for tile in dict.fromkeys(scene.tile for scene in SAMPLE_SCENES)
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        items = list(
            pool.map(lambda scene: _write_scene(scene, landscapes[scene.tile], folder), SAMPLE_SCENES)
        )
    _write_items(folder, items)


def _write_scene(scene: SampleScene, landscape: Landscape, folder: Path) -> Item:
    """The item of ``scene``, whose files are in a folder of its own."""
    (folder / scene.id).mkdir()
    rasters = build_scene_rasters(scene, landscape)
    paths = write_rasters(rasters, folder / scene.id)
    item = build_item(scene, {key: path.name for key, path in paths.items()}, rasters.draw_scene_classes())
    (folder / scene.id / f"{scene.id}.json").write_bytes(orjson.dumps(item, option=orjson.OPT_INDENT_2))
    # The list of items stands in the folder above.
    return map_hrefs(item, lambda href: href if "://" in href else f"{scene.id}/{href}")


def _write_items(folder: Path, items: list[Item]) -> None:
    hrefs = sorted(asset["href"] for item in items for asset in item["assets"].values())
    hrefs += [f"{item['id']}/{item['id']}.json" for item in items]
    document: dict[str, Any] = {
        "type": "FeatureCollection",
        "description": _MARKER.strip(),
        _VERSION_KEY: _VERSION,
        "features": items,
        "files": {href: (folder / href).stat().st_size for href in hrefs},
    }
    (folder / ITEMS_NAME).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _move_into_place(partial: Path, folder: Path) -> None:
    """One rename, so that no reader ever sees half an archive."""
    if _is_complete(folder):
        return
    if folder.exists():
        shutil.rmtree(folder)
    try:
        os.replace(partial, folder)  # noqa: PTH105 - says that it replaces
    except OSError:
        if not _is_complete(folder):
            raise
