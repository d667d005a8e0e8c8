"""What a mosaic is asked to be, and what that comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from flows.errors import SettingsError
from flows.mosaic.blocks import Block, plan_blocks
from flows.mosaic.document import is_mosaic_item, name_files
from flows.mosaic.observation import Observation, check_bands, read_observation, sort_observations
from flows.mosaic.reducers import Reducer
from flows.mosaic.target import build_target_grid
from flows.ports import ObjectReader
from flows.scene.grid import Grid
from flows.scene.query import SceneQuery
from flows.search import find_published_items


@dataclass(frozen=True, slots=True)
class MosaicRequest:
    """What a mosaic is asked to be.

    ``files`` is a folder below which source assets may be read beside the store. ``truth`` names the
    asset that knows where cloud and shadow are: what is left of them is then counted.
    """

    out: Path
    query: SceneQuery
    bands: tuple[str, ...] = ("B04", "B03", "B02")
    reducer: Reducer = Reducer.MEDIAN
    crs: str | None = None
    pixel_size_m: float | None = None
    max_cloud_pct: float | None = None
    plain_median: bool = False
    truth: str | None = None
    files: Path | None = None


@dataclass(frozen=True, slots=True)
class MosaicPlan:
    """What a request comes to: the observations, best first, the grid, the blocks."""

    observations: Sequence[Observation]
    grid: Grid
    blocks: Sequence[Block]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "items": sorted(observation.id for observation in self.observations),
            "crs": self.grid.crs,
            "pixel_size_m": self.grid.pixel_size_m,
            "shape": list(self.grid.shape),
            "blocks": len(self.blocks),
        }


def plan_mosaic(store: ObjectReader, request: MosaicRequest) -> MosaicPlan:
    """What would be read and made; reads catalogs and items, writes nothing.

    Raises:
        SettingsError: nothing matches, an item lacks a band, a grid that cannot be.
        SourceRefused, StoreUnavailable, StoreRefused: the catalog cannot be read.
    """
    check_out(request.out)
    bands = check_bands(request.bands)
    found = find_published_items(store, request.query, request.max_cloud_pct)
    if not found:
        raise SettingsError(
            f"nothing that is published in {store.url} matches: widen --bbox, --tile, --datetime or "
            "--max-cloud; cloudmask status shows what is there"
        )
    assets = (*bands, request.truth) if request.truth else bands
    observations = sort_observations(
        [read_observation(published, assets, store) for published in found], request.reducer
    )
    grid = build_target_grid(
        observations, bands, bbox=request.query.bbox, crs=request.crs, pixel_size_m=request.pixel_size_m
    )
    return MosaicPlan(observations, grid, plan_blocks(grid, observations))


def check_out(out: Path) -> None:
    """See that a mosaic can be written to ``out``.

    Raises:
        SettingsError: it cannot.
    """
    if out.suffix.lower() not in {".tif", ".tiff"}:
        raise SettingsError(f"--out {out}: name a file that ends in .tif")
    if not out.absolute().parent.is_dir():
        raise SettingsError(f"--out {out}: {out.parent} is no folder: make it first")
    for path in astuple(name_files(out)):
        if path.is_dir():
            raise SettingsError(f"--out {out}: {path} is a folder, and would be a file: name another")
    item = name_files(out).item
    if item.is_file() and not is_mosaic_item(item.read_bytes()):
        raise SettingsError(
            f"--out {out}: {item} beside it is no mosaic's and would be lost: name another file"
        )
