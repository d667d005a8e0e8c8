"""The request for a mosaic, and the plan that follows from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from pc_cloudmask.catalog.search import find_published_items
from pc_cloudmask.errors import CloudmaskError, SettingsError, SourceError
from pc_cloudmask.mosaic.compose import (
    BAND_PIXEL_SIZES_M,
    Observation,
    Reducer,
    check_bands,
    read_observation,
    sort_observations,
)
from pc_cloudmask.raster.gdal import gdal_environment
from pc_cloudmask.scene.geometry import BBox
from pc_cloudmask.scene.grid import Grid, Window
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.storage.store import ObjectReader

#: ``(west, south, east, north)`` in the units of a CRS.
Bounds = tuple[float, float, float, float]
#: About 33 full tiles of 10 m.
MAX_PIXELS = 4_000_000_000
#: Edges of a block. Larger ones save nothing: assets are stored in blocks of 512.
LARGEST_PX, SMALLEST_PX = 1024, 64
#: Memory that the observations of a block may take at once, however many there are.
MEMORY_BYTES = 384 << 20
#: For one pixel of one observation: its value, 2, with three flags of 1 and one more while it is read.
BYTES_PER_VALUE = 6
#: Distinguishes a mosaic's item, by its ``processing:expression``, from any other.
EXPRESSION_FORMAT = "pc-cloudmask-reducer"
_EDGE_POINTS = 21


def build_target_grid(
    observations: Sequence[Observation],
    bands: Sequence[str],
    *,
    bbox: BBox | None = None,
    crs: str | None = None,
    pixel_size_m: float | None = None,
) -> Grid:
    """Return the grid that covers ``bbox``, or all observations if there is none.

    Its CRS is the observations' most frequent one unless ``crs`` names another; its pixels have the size of
    the finest band, and are aligned with those of the observations in the same CRS.

    Raises:
        SettingsError: The CRS is not projected in metres, the pixel size is invalid, or the grid is too large or empty.
    """
    counts = Counter(observation.scene.grid.crs for observation in observations)
    crs = _check_crs(crs) if crs else min(counts, key=lambda crs: (-counts[crs], crs))
    size = float(min(BAND_PIXEL_SIZES_M[band] for band in bands)) if pixel_size_m is None else pixel_size_m
    if not (math.isfinite(size) and 1 <= size <= 10_000):
        raise SettingsError(f"--resolution {size:g}: give metres from 1 to 10000")
    grids = dict.fromkeys(each.scene.grid for each in observations)
    bounds = _project_bbox(bbox, crs) if bbox else _unite(find_bounds(grid, crs) for grid in grids)
    # Tiles of one zone share their 20 m grid.
    anchors = ((grid.transform[2], grid.transform[5]) for grid in grids if grid.crs == crs)
    return _snap(bounds, crs, size, next(anchors, (0.0, 0.0)))


def find_bounds(grid: Grid, crs: str) -> Bounds:
    """Return the bounds of ``grid`` in another CRS."""
    return grid.bounds if grid.crs == crs else _project(grid.bounds, grid.crs, crs)


def _project(bounds: Bounds, crs: str, target_crs: str) -> Bounds:
    with gdal_environment():
        west, south, east, north = transform_bounds(crs, target_crs, *bounds, densify_pts=_EDGE_POINTS)
    return (west, south, east, north)


def _check_crs(text: str) -> str:
    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        raise SettingsError(f"--crs {text!r:.40}: not a CRS such as EPSG:32722") from error
    code = crs.to_epsg()
    if code is None or not crs.is_projected or crs.linear_units_factor[1] != 1.0:
        raise SettingsError(f"--crs {text!r:.40}: not a projected CRS in metres of the EPSG registry")
    return f"EPSG:{code}"


def _project_bbox(bbox: BBox, crs: str) -> Bounds:
    """Return ``bbox`` in ``crs``; for one across the antimeridian, the bounds of both halves."""
    west, south, east, north = bbox
    halves = [bbox] if west < east else [(west, south, 180.0, north), (-180.0, south, east, north)]
    projected = [_project(half, "EPSG:4326", crs) for half in halves]
    if not all(map(math.isfinite, sum(projected, ()))):
        raise SettingsError(f"--bbox: lies outside of where {crs} is defined; name another --crs")
    return _unite(projected)


def _unite(bounds: Iterable[Bounds]) -> Bounds:
    west, south, east, north = zip(*bounds, strict=True)
    return (min(west), min(south), max(east), max(north))


def _snap(bounds: Bounds, crs: str, size: float, anchor: tuple[float, float]) -> Grid:
    """Return the smallest grid over ``bounds`` with ``anchor`` on a corner of its pixels."""
    noise = 1e-6  # of a pixel: bounds on the grid must not gain a row through a rounding error
    first_col = math.floor((bounds[0] - anchor[0]) / size + noise)
    last_col = math.ceil((bounds[2] - anchor[0]) / size - noise)
    first_row = math.floor((anchor[1] - bounds[3]) / size + noise)
    last_row = math.ceil((anchor[1] - bounds[1]) / size - noise)
    height, width = last_row - first_row, last_col - first_col
    if height * width > MAX_PIXELS:
        raise SettingsError(
            f"the mosaic would have {width} x {height} pixels of {size:g} m, more than {MAX_PIXELS:.0e}: "
            "give a coarser --resolution or a smaller --bbox"
        )
    west, north = anchor[0] + first_col * size, anchor[1] - first_row * size
    return Grid(crs, (size, 0.0, west, 0.0, -size, north), (max(height, 1), max(width, 1)))


@dataclass(frozen=True, slots=True)
class Block:
    """A window of the mosaic, and the observations whose grids overlap it."""

    window: Window
    observations: tuple[Observation, ...]


def plan_blocks(
    grid: Grid, observations: Sequence[Observation], memory_bytes: int = MEMORY_BYTES
) -> list[Block]:
    """Return blocks that cover all of ``grid`` that any observation reaches, each with its observations in order.

    The more observations overlap a block, the smaller it is: memory does not grow with the time span.
    """
    bounds = {each: find_bounds(each, grid.crs) for each in {each.scene.grid for each in observations}}

    def split(window: Window, candidates: Sequence[Observation]) -> Iterator[Block]:
        extent = grid.window_grid(window).bounds
        reaching = [each for each in candidates if _overlap(bounds[each.scene.grid], extent)]
        size = len(reaching) * window.height * window.width * BYTES_PER_VALUE
        if reaching and (size <= memory_bytes or max(window.shape) <= SMALLEST_PX):
            yield Block(window, tuple(reaching))
        elif reaching:
            for part in _halve(window):
                yield from split(part, reaching)

    return [block for window in grid.blocks(LARGEST_PX) for block in split(window, observations)]


def _overlap(one: Bounds, other: Bounds) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _halve(window: Window) -> tuple[Window, Window]:
    """Return the halves across the longer edge: quarters would often be smaller than necessary."""
    row, col, height, width = astuple(window)
    half = max(height, width) // 2
    if height >= width:
        return Window(row, col, half, width), Window(row + half, col, height - half, width)
    return Window(row, col, height, half), Window(row, col + half, height, width - half)


@dataclass(frozen=True, slots=True)
class MosaicFiles:
    """Where the parts of a mosaic are, side by side; ``plain`` if it was requested."""

    raster: Path
    preview: Path
    item: Path
    plain: Path
    plain_preview: Path


@dataclass(frozen=True, slots=True)
class MosaicRequest:
    """The request for a mosaic.

    Attributes:
        out: The raster's path; other files are written next to it.
        query: Which published items to use.
        bands: Reflectances, by their asset keys.
        reducer: How several observations of a pixel become one.
        crs: ``EPSG:n``, in metres; None: the items' most frequent one.
        pixel_size_m: None: that of the finest band.
        max_cloud_pct: Cloud and shadow that an item may have; None: any.
        plain_median: True to also make the median of all observations, including clouds.
        truth: The asset with the true clouds and shadows, to count what remains of them.
        files: A folder below which source assets may be read, besides the store.
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

    @property
    def outputs(self) -> MosaicFiles:
        """Return the paths of the files that are made."""
        out = self.out.absolute()
        plain = out.with_name(f"{out.stem}-plain.tif")
        return MosaicFiles(
            out, out.with_suffix(".png"), out.with_suffix(".json"), plain, plain.with_suffix(".png")
        )


@dataclass(frozen=True, slots=True)
class MosaicPlan:
    """What a request leads to: the observations, best first, the grid, the blocks.

    ``left_out`` are scenes that match but cannot be used, by id, with the reason.
    """

    observations: Sequence[Observation]
    grid: Grid
    blocks: Sequence[Block]
    left_out: Mapping[str, CloudmaskError] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "items": sorted(observation.id for observation in self.observations),
            "crs": self.grid.crs,
            "pixel_size_m": self.grid.pixel_size_m,
            "shape": list(self.grid.shape),
            "blocks": len(self.blocks),
            "left_out": [
                {"id": item_id, "error": str(error)} for item_id, error in sorted(self.left_out.items())
            ],
        }


def plan_mosaic(store: ObjectReader, request: MosaicRequest) -> MosaicPlan:
    """Return what would be read and made; this reads catalogs and items, and writes nothing.

    Raises:
        SettingsError: The query names no place, nothing matches, every item lacks a band, or the grid or the
            files are impossible.
        SourceRefused, StoreUnavailable, StoreRefused: The catalog, or every item, cannot be read.
    """
    if request.query.is_open:
        raise SettingsError("name where: --bbox or --tile")
    _check_outputs(request)
    check_bands(request.bands)
    left_out: dict[str, CloudmaskError] = {}
    found = find_published_items(store, request.query, request.max_cloud_pct, left_out)
    if not found and not left_out:
        raise SettingsError(
            f"nothing that is published in {store.url} matches: widen --bbox, --tile, --datetime or "
            "--max-cloud; cloudmask status shows what is there"
        )
    assets = (*request.bands, request.truth) if request.truth else request.bands
    observations = []
    for published in found:
        try:
            observations.append(read_observation(published, assets, store))
        except (SettingsError, SourceError) as error:
            left_out[published.keys.item_id] = error
    return _build_plan(request, sort_observations(observations, request.reducer), left_out)


def leave_out(plan: MosaicPlan, request: MosaicRequest, broken: Mapping[str, CloudmaskError]) -> MosaicPlan:
    """Return the plan without the ``broken`` scenes, as if they had not matched.

    Raises:
        CloudmaskError: What is wrong with the first of them, if none is left.
    """
    rest = [each for each in plan.observations if each.id not in broken]
    return _build_plan(request, rest, {**plan.left_out, **broken})


def _build_plan(
    request: MosaicRequest, observations: Sequence[Observation], left_out: Mapping[str, CloudmaskError]
) -> MosaicPlan:
    if not observations:
        raise next(iter(left_out.values()))
    grid = build_target_grid(
        observations,
        request.bands,
        bbox=request.query.bbox,
        crs=request.crs,
        pixel_size_m=request.pixel_size_m,
    )
    return MosaicPlan(observations, grid, plan_blocks(grid, observations), left_out)


def _check_outputs(request: MosaicRequest) -> None:
    """Raise ``SettingsError`` if the mosaic's files cannot be written, or would replace somebody else's."""
    out, outputs = request.out, request.outputs
    if out.suffix.lower() not in {".tif", ".tiff"}:
        raise SettingsError(f"--out {out}: name a file that ends in .tif")
    if not outputs.raster.parent.is_dir():
        raise SettingsError(f"--out {out}: {out.parent} is no folder: make it first")
    for path in astuple(outputs):
        if path.is_dir():
            raise SettingsError(
                f"--out {out}: {out.with_name(path.name)} is a folder, and would be a file: name another"
            )
    marker = f'"format":"{EXPRESSION_FORMAT}"'.encode()
    if outputs.item.is_file() and marker not in outputs.item.read_bytes():
        raise SettingsError(
            f"--out {out}: {out.with_suffix('.json')} next to it is no mosaic's and would be lost: name another file"
        )
