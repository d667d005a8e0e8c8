"""The sample archive, made once for all tests that read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from pc_cloudmask.demo.scenes import SAMPLE_SCENES
from pc_cloudmask.scene.scene import Scene
from pc_cloudmask.source.item import read_scene

#: Ids of the sample scenes by tile, in order of time.
BRAZIL, BAVARIA = (
    sorted(sample.id for sample in SAMPLE_SCENES if sample.tile.name == tile) for tile in ("22KFV", "33UUP")
)
SAMPLE_IDS = (*BRAZIL, *BAVARIA)
#: What ``check`` looks at in the sample archive's catalog: a mask and a preview of each item.
SAMPLE_COUNTS = f"{len(SAMPLE_IDS)} items, 9 catalogs, {2 * len(SAMPLE_IDS)} files"


def read_items(items: Path) -> list[dict[str, Any]]:
    """The items, their hrefs absolute paths."""
    features = json.loads(items.read_bytes())["features"]
    for item in features:
        for asset in item["assets"].values():
            asset["href"] = str(items.parent / asset["href"])
    return features


def copy_archive(items: Path, folder: Path, features: Sequence[dict[str, Any]]) -> Path:
    """Write ``features`` as items of an archive in ``folder``, whose rasters are links to those of ``items``."""
    for path in items.parent.rglob("*.tif"):
        link = folder / path.relative_to(items.parent)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(path)
    copy = folder / items.name
    copy.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return copy


def select_items(items: Path, folder: Path, ids: Sequence[str]) -> Path:
    """Copy the archive with the items of ``ids`` alone."""
    features = json.loads(items.read_bytes())["features"]
    return copy_archive(items, folder, [item for item in features if item["id"] in ids])


def read_scenes(items: Path) -> list[Scene]:
    return [read_scene(item) for item in read_items(items)]


def read_pixels(href: str) -> NDArray[Any]:
    """(height, width), or (bands, height, width) of a picture."""
    with rasterio.open(href) as dataset:
        pixels = dataset.read()
    return np.squeeze(pixels, axis=0) if len(pixels) == 1 else pixels
