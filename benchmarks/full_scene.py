"""One scene of a full tile: an item with the COGs that its mask is made from.

The pixels are those of a sample scene, a fifth of a tile wide, laid side by side: clouds with their
shadows, water, fields, and over all of it a wedge without data. The near infrared gets noise besides, for
what a deflated block costs to read is what it holds, and the samples are made to be small.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pc_cloudmask.demo.archive import build_sample_archive
from pc_cloudmask.masking.classes import PROBABILITY_NODATA
from tests.masking.chip_item import write_cog

REPEATS = 5
"""Samples along the edge of a tile."""
ASSETS = ("B08", "SCL", "cloud-probability")
NODATA = {"cloud-probability": PROBABILITY_NODATA}
"""Others have 0."""
NOISE_DN = 64
"""Range of the noise: with it a band of a full tile takes 200 MB, as a real one does."""

Item = dict[str, Any]


def write_full_scene(folder: Path, sample_index: int = 0) -> Item:
    """Write COGs into ``folder`` and return the item, its hrefs absolute paths; takes half a minute."""
    archive = build_sample_archive(folder / "sample-archive")
    item: Item = json.loads(archive.read_bytes())["features"][sample_index]
    epsg = item["properties"]["proj:epsg"]
    assets = {key: dict(item["assets"][key]) for key in ASSETS}
    for key, asset in assets.items():
        with rasterio.open(archive.parent / asset["href"]) as dataset:
            pixels = _lay_out(dataset.read(1), key)
        path = folder / f"{key}.tif"
        # As the samples do: an overview that averages undeclared no-data claims more than 100 percent.
        write_cog(path, pixels, Affine(*asset["proj:transform"]), epsg, NODATA.get(key))
        asset |= {"href": str(path), "proj:shape": list(pixels.shape)}
    return {**item, "assets": assets, "links": []}


def write_items(path: Path, items: list[Item]) -> Path:
    """Write an ItemCollection to ``path``."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}), "utf-8")
    return path


def repeat_item(item: Item, count: int) -> list[Item]:
    """Return ``item`` and copies acquired on the days after it, which share its files."""
    return [_move_days(item, days) for days in range(count)]


def _lay_out(sample: NDArray[Any], key: str) -> NDArray[Any]:
    pixels = np.tile(sample, (REPEATS, REPEATS))
    if key == "B08":
        pixels += np.random.default_rng(8).integers(0, NOISE_DN, pixels.shape, dtype=pixels.dtype)
    height, width = pixels.shape
    for row in range(height):
        # The swath's edge: it leaves out an eighth of the tile, to the same line at 10 m and 20 m.
        pixels[row, : (height - row) * width // (4 * height)] = NODATA.get(key, 0)
    return pixels


def _move_days(item: Item, days: int) -> Item:
    """Return the item of an acquisition ``days`` later: its id, its times, its Earth Engine image differ."""
    fields = json.dumps({key: value for key, value in item.items() if key != "assets"})
    first = item["properties"]["datetime"][:10]
    then = str(np.datetime64(first) + days)
    moved = fields.replace(first, then).replace(first.replace("-", ""), then.replace("-", ""))
    return {**json.loads(moved), "assets": item["assets"]}
