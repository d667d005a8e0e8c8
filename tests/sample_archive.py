"""The sample archive, made once for all tests that read it."""

from __future__ import annotations

import json
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


def read_scenes(items: Path) -> list[Scene]:
    return [read_scene(item) for item in read_items(items)]


def read_pixels(href: str) -> NDArray[Any]:
    """(height, width), or (bands, height, width) of a picture."""
    with rasterio.open(href) as dataset:
        pixels = dataset.read()
    return np.squeeze(pixels, axis=0) if len(pixels) == 1 else pixels
