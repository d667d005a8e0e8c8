"""When an area was clear: for each scene the shares of its clear, cloudy, shadowed and unknown pixels.

Only the blocks of a mask that contain the area are read. Counts are cached by the content hashes of mask and area:
a mask's file never changes, so it is read once per area.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pc_cloudmask.catalog.search import READERS, ItemChoice, PublishedItem, search_catalog
from pc_cloudmask.errors import AssetRefused, CloudmaskError, SettingsError, StoreRefused, StoreUnavailable
from pc_cloudmask.masking.classes import MaskClass, share_out
from pc_cloudmask.raster.area import AreaPixels, find_pixels
from pc_cloudmask.raster.cog import PartsFile, open_parts
from pc_cloudmask.raster.gdal import Unreadable
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.geometry import build_shape
from pc_cloudmask.scene.grid import Grid, Window, read_grid
from pc_cloudmask.scene.query import build_query
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.settings import find_cache_folder, read_settings
from pc_cloudmask.storage.store import ObjectReader
from pc_cloudmask.storage.stores import open_reader
from pc_cloudmask.viewing.library import (
    ListedItem,
    describe_item,
    find_mask_fields,
    find_mask_key,
    read_area,
)

#: To be raised with every change that gives other counts for the same mask and area.
_COUNTING = 1
_SHARES = ("clear", "cloud", "shadow", "nodata")
#: The fields of a scene as JSON.
SCENE_FIELDS = (
    *("id", "tile", "datetime", "method", "provisional"),
    *(f"{name}_percentage" for name in _SHARES),
    *(f"{name}_px" for name in (*_SHARES, "area")),
    "mask",
)
#: The area's pixels, and how many of them are clear, cloud, shadow.
_Counts = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ClearScene:
    """How much of the area is clear, cloud, shadow and unknown in one scene.

    The pixels sum to ``area_px``, their percentages to 100. ``nodata`` is where the mask has no data, and the part of
    the area outside the scene's tile.
    """

    item: ListedItem
    area_px: int
    clear_px: int
    cloud_px: int
    shadow_px: int

    @property
    def nodata_px(self) -> int:
        """Return the number of the area's pixels about which the scene says nothing."""
        return self.area_px - self.clear_px - self.cloud_px - self.shadow_px

    @property
    def percentages(self) -> dict[str, float]:
        """Return the shares of the area, which sum to 100."""
        shares = share_out([getattr(self, f"{name}_px") for name in _SHARES])
        return dict(zip(_SHARES, shares, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        shares = {f"{name}_percentage": share for name, share in self.percentages.items()}
        pixels = {f"{name}_px": getattr(self, f"{name}_px") for name in (*_SHARES, "area")}
        fields = self.item.as_json() | shares | pixels
        return {name: fields[name] for name in SCENE_FIELDS}


@dataclass(frozen=True, slots=True)
class AreaReport:
    """The scenes that see an area, by time, and what it took to look.

    Attributes:
        scenes: Those that match.
        left_out: What is wrong with scenes that could not be read, by id.
        masks: The number of masks of the area, of which ``kept`` were counted by an earlier call.
        mask_bytes: The size of the masks, of which ``bytes_read`` were read in ``requests``; if a mask was counted
            earlier, one byte is read to see that it is there.
    """

    scenes: tuple[ClearScene, ...]
    left_out: Mapping[str, CloudmaskError] = field(default_factory=dict)
    masks: int = 0
    kept: int = 0
    mask_bytes: int = 0
    bytes_read: int = 0
    requests: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        numbers = ("masks", "kept", "mask_bytes", "bytes_read", "requests")
        return {
            "scenes": [scene.as_json() for scene in self.scenes],
            "left_out": [{"id": name, "error": str(error)} for name, error in sorted(self.left_out.items())],
            **{name: getattr(self, name) for name in numbers},
        }


def measure_area(
    area: Any,
    *,
    tiles: str | Iterable[str] = (),
    datetime: str | None = None,
    min_clear_pct: float | None = None,
    store: str | None = None,
    keep: bool = True,
) -> AreaReport:
    """Return, for each scene that sees ``area``, how much of it is clear, cloud, shadow and without data; by time.

    A pixel belongs to the area if its centre lies inside, see ``raster.area``. A scene is one item: if the area
    lies in two tiles, each of them has its own scene, with the same time.

    Args:
        area: GeoJSON as a file's path, text or an object, or a shapely geometry; longitude and latitude.
        tiles: MGRS tiles such as ``22KFV``; default: all that are published.
        datetime: ``2018``, ``2018-12``, ``2018-12-14/2019-01-31`` or ``2018-12-14/..``.
        min_clear_pct: How much of the area must be clear.
        store: A directory, ``s3://bucket/prefix`` or the https URL of a catalog; default: the setting
            ``CLOUDMASK_STORE``.
        keep: Whether counts are read from, and written to, the user's cache folder.

    Raises:
        SettingsError: A criterion is invalid, or there is no catalog.
        StoreRefused, StoreUnavailable, SourceRefused: No permission to read it, no answer, a broken catalog. A broken
            item or mask is in the report's ``left_out``.
    """
    query = build_query(
        intersects=read_area(area, "area"),
        tiles=[tiles] if isinstance(tiles, str) else list(tiles),
        datetime=datetime,
    )
    report = measure_scenes(open_reader(store or read_settings().store), ItemChoice(query), keep)
    return leave_cloudy_out(report, min_clear_pct)


def leave_cloudy_out(report: AreaReport, min_clear_pct: float | None) -> AreaReport:
    """Return the report with only those scenes in which so much of the area is clear; with all for None."""
    if min_clear_pct is None:
        return report
    clear = (scene for scene in report.scenes if scene.percentages["clear"] >= min_clear_pct)
    return replace(report, scenes=tuple(clear))


def measure_scenes(store: ObjectReader, choice: ItemChoice, keep: bool = False) -> AreaReport:
    """Return the report for the area that ``choice`` names; for ``keep`` see ``measure_area``.

    Raises:
        SettingsError: ``choice`` names no area, or the store holds no catalog.
        StoreRefused, StoreUnavailable, SourceRefused: see ``search_catalog``; or no mask at all could be read.
    """
    area = choice.query.intersects
    if area is None:
        raise SettingsError("name the area: --intersects")
    left_out: dict[str, CloudmaskError] = {}
    looks = search_catalog(store, choice, partial(_describe_mask, store), left_out, brief=True)
    known = orjson.dumps([_COUNTING, area], option=orjson.OPT_SORT_KEYS)
    folder = find_cache_folder() if keep else None
    path = None if folder is None else folder / "clear" / f"{sha256(known).hexdigest()[:32]}.json"
    kept = _read_kept(path)
    with warnings.catch_warnings():
        # About a broken mask; the error that names it says what is wrong. Threads would undo this for each other.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        _look_at_all(store, build_shape(area), looks, kept)
    counted = {look.checksum: look.counts for look in looks if look.counts and look.checksum}
    if path is not None and not counted.items() <= kept.items():
        _write_kept(path, kept | counted)
    left_out |= {look.item.id: look.error for look in looks if look.error is not None}
    if looks and all(isinstance(look.error, StoreUnavailable) for look in looks):
        raise next(look.error for look in looks if look.error is not None)
    found = [ClearScene(look.item, *look.counts) for look in looks if look.counts is not None]
    return AreaReport(
        tuple(sorted(found, key=lambda each: (each.item.datetime or "", each.item.id))),
        left_out,
        masks=len(looks),
        kept=sum(look.is_kept for look in looks),
        mask_bytes=sum(look.size for look in looks),
        bytes_read=sum(look.bytes_read for look in looks),
        requests=sum(look.requests for look in looks),
    )


@dataclass(slots=True)
class _Look:
    """An item's mask, as the item describes it, and what looking at it gave."""

    item: ListedItem
    key: str | None
    grid: Grid | None
    size: int
    checksum: str
    counts: _Counts | None = None
    error: CloudmaskError | None = None
    bytes_read: int = 0
    requests: int = 0
    is_kept: bool = False


def _describe_mask(store: ObjectReader, published: PublishedItem) -> _Look:
    fields = find_mask_fields(published)
    try:
        grid = read_grid(fields)
    except ValueError:
        grid = None
    size, checksum = fields.get("file:size"), fields.get("file:checksum")
    return _Look(
        describe_item(store, published),
        find_mask_key(published),
        grid,
        size if isinstance(size, int) else 0,
        checksum if isinstance(checksum, str) else "",
    )


def _look_at_all(
    store: ObjectReader, area: shapely.Geometry, looks: list[_Look], kept: Mapping[str, _Counts]
) -> None:
    """Look at all masks, those of one grid together: the area is drawn on each grid only once."""
    looks.sort(key=lambda each: repr(each.grid))
    with ThreadPoolExecutor(READERS) as pool:
        for grid, group in groupby(looks, lambda each: each.grid):
            of_grid = list(group)
            are_known = list(pool.map(partial(_look_up, store, kept), of_grid))
            unknown = [look for look, is_known in zip(of_grid, are_known, strict=True) if not is_known]
            if unknown:
                list(pool.map(partial(_look, store, _draw_area(area, grid)), unknown))


def _look_up(store: ObjectReader, kept: Mapping[str, _Counts], look: _Look) -> bool:
    """Take the cached counts of a mask that still exists with the same size; return False if it must be read."""
    counts = kept.get(look.checksum)
    if counts is None or look.key is None:
        return False
    try:
        part = store.read_part(look.key, 0, 1)
    except CloudmaskError as error:
        look.error, look.requests = error, 1
        return True
    if part is None or part.size != look.size:
        return False
    look.counts, look.bytes_read, look.requests, look.is_kept = counts, len(part.body), 1, True
    return True


def _draw_area(area: shapely.Geometry, grid: Grid | None) -> AreaPixels | None:
    """Return the area's pixels; None for an invalid grid."""
    try:
        return None if grid is None else find_pixels(area, grid)
    except (RasterioError, ValueError):
        return None


def _look(store: ObjectReader, pixels: AreaPixels | None, look: _Look) -> None:
    """Count the area's pixels in the mask, or say what is wrong with it."""
    name = f"item {look.item.id}"
    if pixels is None or look.grid is None or look.key is None:
        look.error = AssetRefused(f"{name}: no asset {MASK_ASSET} whose proj:* tell its grid")
        return
    if pixels.window is None:
        look.counts = (pixels.total_px, 0, 0, 0)
        return
    file = PartsFile(partial(_read_part, store, look.key))
    try:
        if look.size and (size := file.size) != look.size and file.error is None:
            raise Unsuitable(f"it has {size} bytes, not the {look.size} that its item states")
        look.counts = _count_classes(file, look.key, look.grid, pixels, pixels.window)
    except (Unsuitable, Unreadable) as error:
        look.error = AssetRefused(f"{name}: its mask is no mask of ours: {error}")
    except CloudmaskError as error:
        look.error = error
    look.bytes_read, look.requests = file.bytes_read, file.requests


def _read_part(store: ObjectReader, key: str, offset: int, length: int) -> tuple[bytes, int]:
    part = store.read_part(key, offset, length)
    if part is None:
        raise StoreRefused(f"{store.url}: {key} is missing; run cloudmask check --repair")
    return part.body, part.size


def _count_classes(file: PartsFile, name: str, grid: Grid, pixels: AreaPixels, window: Window) -> _Counts:
    """Count the area's pixels by class, in ``window``, block by block of the file; other blocks are not read.

    Raises:
        Unsuitable, Unreadable: it is not a mask, or not on that grid.
    """
    counts = np.zeros(256, np.int64)
    with open_parts(file, name) as parts:
        dataset = parts.header
        check_raster(dataset)
        crs = dataset.crs.to_string() if dataset.crs else None
        if Grid(str(crs), tuple(dataset.transform)[:6], dataset.shape) != grid:
            raise Unsuitable("it is not on the grid that its item states")
        if dataset.dtypes[0] != "uint8":
            raise Unsuitable(f"it holds {dataset.dtypes[0]}, not uint8")
        for block in _list_blocks(window, *dataset.block_shapes[0]):
            rows, cols = block.row - window.row, block.col - window.col
            inside = pixels.inside[rows : rows + block.height, cols : cols + block.width]
            if inside.any():
                counts += np.bincount(parts.read_block(block)[inside], minlength=256)
    if counts[len(MaskClass) :].any():
        raise Unsuitable("it holds values that no class has")
    clear, cloud, shadow = map(int, counts[[MaskClass.CLEAR, MaskClass.CLOUD, MaskClass.CLOUD_SHADOW]])
    return (pixels.total_px, clear, cloud, shadow)


def _list_blocks(window: Window, height: int, width: int) -> Iterator[Window]:
    """Yield the part of ``window`` in each of the file's blocks, which are ``height`` x ``width``."""
    bottom, right = window.row + window.height, window.col + window.width
    for row in range(window.row // height * height, bottom, height):
        top, below = max(row, window.row), min(row + height, bottom)
        for col in range(window.col // width * width, right, width):
            left, beyond = max(col, window.col), min(col + width, right)
            yield Window(top, left, below - top, beyond - left)


def _read_kept(path: Path | None) -> dict[str, _Counts]:
    """Return the counts of one area by the checksum of the mask's file; a file that cannot be used has none."""
    try:
        written = {} if path is None else orjson.loads(path.read_bytes())
        return {name: tuple(counts) for name, counts in written.items() if name and _are_counts(counts)}
    except (OSError, ValueError, AttributeError):
        return {}


def _are_counts(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 4 and all(type(each) is int for each in value)):
        return False
    total, *counts = value
    return bool(min(value) >= 0 and sum(counts) <= total)


def _write_kept(path: Path, counts: Mapping[str, _Counts]) -> None:
    """Write the counts; if this fails, it is counted again next time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(counts))
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
