"""What an evaluation must come to, by loops over single pixels, and the rasters for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pc_cloudmask.scene.grid import Grid

TRANSFORM = (20.0, 0.0, 600_000.0, 0.0, -20.0, 7_500_040.0)
CRS = "EPSG:32722"
NAMES = {0: "nodata", 1: "clear", 2: "cloud", 3: "shadow", 4: "cloud-and-shadow"}
HITS = {
    "cloud": ({"cloud", "cloud-and-shadow"}, {"cloud"}),
    "shadow": ({"shadow", "cloud-and-shadow"}, {"shadow"}),
    "masked": ({"cloud", "shadow", "cloud-and-shadow"}, {"cloud", "shadow"}),
}


def grid_of(array: NDArray[Any]) -> Grid:
    height, width = array.shape
    return Grid(CRS, TRANSFORM, (height, width))


def write_raster(
    path: Path,
    pixels: NDArray[Any],
    transform: tuple[float, ...] = TRANSFORM,
    crs: str | None = CRS,
    nodata: int | None = None,
) -> Path:
    height, width = pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 1, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **profile, crs=crs, transform=Affine(*transform), nodata=nodata) as file:
        file.write(pixels, 1)
    return path


def expect(pairs: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """The JSON of pairs of label and mask class, pixel by pixel."""
    met: Counter[tuple[str, str]] = Counter()
    for (label, mask), number in Counter(pairs).items():
        met[NAMES[int(label)], NAMES[int(mask)]] += number
    judged = Counter({pair: number for pair, number in met.items() if "nodata" not in pair})
    rows = ["clear", "cloud", "shadow"]
    rows += ["cloud-and-shadow"] if any(label == "cloud-and-shadow" for label, _ in judged) else []
    total = sum(judged.values())
    same = sum(
        n for (label, mask), n in judged.items() if mask == label or (mask != "clear" and "-" in label)
    )
    return {
        "judged": total,
        "without_mask": sum(n for (label, mask), n in met.items() if label != "nodata" == mask),
        "agreement_percentage": 100 * same / total if total else None,
        "confusion": {
            row: {column: judged[row, column] for column in ("clear", "cloud", "shadow")} for row in rows
        },
        "scores": {target: score(judged, *HITS[target]) for target in HITS},
    }


def score(judged: Counter[tuple[str, str]], true: set[str], found: set[str]) -> dict[str, float | None]:
    both = only_true = only_found = neither = 0
    for (label, mask), number in judged.items():
        if label in true and mask in found:
            both += number
        elif label in true:
            only_true += number
        elif mask in found:
            only_found += number
        else:
            neither += number

    def share(part: float, of: int) -> float | None:
        return part / of if of else None

    recall, specificity = share(both, both + only_true), share(neither, neither + only_found)
    precision = share(both, both + only_found)
    return {
        "iou": share(both, both + only_true + only_found),
        "f1": share(both, both + (only_true + only_found) / 2),  # type: ignore[arg-type]
        "recall": recall,
        "precision": precision,
        "balanced_accuracy": None if recall is None or specificity is None else (recall + specificity) / 2,
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal but for the last bits of a float."""
    scores, expected_scores = found["scores"], expected["scores"]
    for target, values in expected_scores.items():
        for name, value in values.items():
            got = scores[target][name]
            assert (got is None) == (value is None), (target, name, got, value)
            assert value is None or abs(got - value) < 1e-12, (target, name, got, value)
    assert {key: found[key] for key in expected if key != "scores"} == {
        key: value for key, value in expected.items() if key != "scores"
    }


def random_classes(shape: tuple[int, int], seed: int, count: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, count, shape, np.uint8)
