"""Pixels of published items through odc-stac."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import odc.stac
import pystac
import rasterio
import rasterio.shutil
import xarray
from numpy.typing import NDArray
from odc.geo.converters import rio_geobox
from odc.geo.gcp import GCPGeoBox
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.loader import RasterLoadParams, RasterSource, RioDriver, RioReader
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine

from pc_cloudmask.catalog.fields import PROJECTION_URI
from pc_cloudmask.errors import (
    AssetError,
    AssetRefused,
    AssetUnavailable,
    CloudmaskError,
    SettingsError,
    StoreRefused,
)
from pc_cloudmask.mosaic.compose import Observation, ReadPixels
from pc_cloudmask.mosaic.plan import MosaicRequest
from pc_cloudmask.raster.gdal import Unreadable, read_asset
from pc_cloudmask.raster.read import Unsuitable, check_crs, check_raster
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.scene import MASK_ASSET
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.assets import AssetReader, build_reader
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectReader
from pc_cloudmask.text import unsigned_href

logger = logging.getLogger(__name__)
# What it logs as an error, an error of ours reports, naming the item.
logging.getLogger("odc.loader._rio").setLevel(logging.CRITICAL)
_ATTEMPTS, _PAUSE_S = 3, 1.0
#: From this many of the raster's pixels per grid pixel on, they are aggregated, not picked or blended.
_SHRINK_FROM = 1.5
#: How bands and classes are aggregated: a cell is cloud or shadow if any of its pixels is.
SHRINK_BANDS, SHRINK_CLASSES = "average", "max"
#: Masks fetched in parallel: requests wait for the network, not for the CPU.
_DOWNLOADS = 16
#: Scenes examined together if a block could not be read.
_LOOKS = 8


class BrokenScenes(Exception):
    """Scenes that cannot be read completely; ``errors`` say why, by id."""

    def __init__(self, errors: Mapping[str, CloudmaskError]) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


class CheckedDriver(RioDriver):
    """odc-loader's own raster reader behind our rules; for Dask's threads, not for other processes.

    odc-loader finds the pixels, copies, repeats, shrinks and warps them. Its reader (0.6.5) is wrapped because on its
    own it

    - opens whatever an href names, with any GDAL driver, as signed when the graph was built: here
      each read signs the href, and opens a GeoTIFF that passed our rules;
    - raises GDAL's errors, which do not name the item, nor the file if decoding fails, and does not retry;
    - takes one resampling for all rasters of a band, whatever their pixels and CRS, and reads masks through
      their overviews, which are nearest neighbours and may miss a cloud;
    - takes 0 as a value if a raster declares no no-data value, as Sentinel-2's bands do not.

    Args:
        readers: The rules that an href must pass, by its prefix; the first that matches counts.
        item_ids: The item of each href, for errors.
        stated: The grids that an item states for the asset at each href; without a CRS it must lie on one of them.
        pause: Waits for some seconds before another attempt.
    """

    def __init__(
        self,
        readers: Sequence[tuple[str, AssetReader]],
        item_ids: Mapping[str, str],
        pause: Callable[[float], None] = time.sleep,
        stated: Mapping[str, Sequence[Grid]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self._readers, self._item_ids, self._pause, self._stated = readers, item_ids, pause, stated

    def open(self, src: RasterSource, ctx: Any) -> Any:
        """Return a reader of one asset, which is not opened yet."""
        return SimpleNamespace(read=partial(self._read, src, ctx))

    def _read(
        self, src: RasterSource, ctx: Any, cfg: RasterLoadParams, dst_geobox: GeoBox, **options: Any
    ) -> Any:
        """Return where in the grid there are pixels, and the pixels, 0 for no data.

        Raises:
            AssetUnavailable, AssetRefused: See ``AssetReader``.
        """
        href, item_id = src.uri, self._item_ids.get(src.uri, "?")
        assets = next(assets for prefix, assets in self._readers if href.startswith(prefix))
        shown = f"item {item_id}: {unsigned_href(href)}"

        def read_from(name: str, dataset: DatasetReader) -> Any:
            fitted = _fit(cfg, rio_geobox(dataset), dst_geobox)
            return RioReader(replace(src, uri=name), ctx).read(fitted, dst_geobox, **options)

        for attempt in range(_ATTEMPTS):
            name = assets.find_readable(href, item_id=item_id)
            read = partial(_read_checked, name, self._stated.get(href, ()), read_from)
            try:
                return read_asset(read, again=attempt > 0)
            except Unsuitable as error:
                raise AssetRefused(f"{shown}: {error}") from error
            except Unreadable as error:
                if not name.startswith("/vsicurl/"):
                    raise AssetRefused(f"{shown}: not a GeoTIFF that can be read: {error}") from error
                problem = error
            logger.info("%s: %s; attempt %d", unsigned_href(href), problem, attempt + 1)
            self._pause(_PAUSE_S * 2**attempt)
        raise AssetUnavailable(f"{shown}: the transfer or the decoding failed: {problem}") from problem


def _read_checked(name: str, stated: Sequence[Grid], read: Callable[[str, DatasetReader], Any]) -> Any:
    """Return what ``read`` makes of a raster that passed our rules, under the name of one that has a CRS."""
    with rasterio.open(name, driver="GTiff") as dataset:
        check_raster(dataset)
        if not stated and not dataset.crs:
            raise Unsuitable("has no CRS")
        if not stated or not stated[0].crs or check_crs(dataset, stated[0].crs, stated):
            return read(name, dataset)
        with _state_crs(dataset, stated[0].crs) as named:
            return read(named.name, named)


@contextmanager
def _state_crs(dataset: DatasetReader, crs: str) -> Iterator[DatasetReader]:
    """Yield a raster that states no CRS as a virtual one that states ``crs``, in memory."""
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(dataset, memory.name, driver="VRT")
        with rasterio.open(memory.name, "r+") as virtual:
            virtual.crs = crs
        with rasterio.open(memory.name) as named:
            yield named


def _fit(cfg: RasterLoadParams, raster: GeoBox | GCPGeoBox, grid: GeoBox) -> RasterLoadParams:
    """Return how a raster is read onto ``grid``: finer pixels are aggregated, coarser ones repeated.

    Across CRSs, where pixels cannot be repeated, bands are blended.
    """
    resampling = cfg.resampling
    if compute_reproject_roi(raster, grid).scale < _SHRINK_FROM:
        repeated = raster.crs == grid.crs or resampling == SHRINK_CLASSES
        resampling = "nearest" if repeated else "bilinear"
    return cfg.patch(
        resampling=resampling, use_overviews=cfg.resampling == SHRINK_BANDS, src_nodata_fallback=0
    )


@dataclass(frozen=True, slots=True)
class BlockReader:
    """Opens blocks of a mosaic; a Dask chunk is one asset of one observation.

    ``mask_paths`` are files by their items' ids, ``dtypes`` those of the assets: uint16 digital numbers, uint8 classes.
    """

    driver: CheckedDriver
    mask_paths: Mapping[str, str]
    dtypes: Mapping[str, str]
    workers: int

    def open_block(self, observations: Sequence[Observation], grid: Grid) -> ReadPixels:
        """Return a function that reads the observations' assets on ``grid``; no pixel is read yet."""
        return partial(_read_chunks, self._load(observations, grid), self.workers)

    def find_broken(self, observations: Sequence[Observation], grid: Grid) -> dict[str, AssetError]:
        """Return the scenes with an asset that cannot be read on ``grid``, by id, and what is wrong.

        Raises:
            AssetUnavailable: None of the first ones answers: that is not their fault.
        """
        loaded = self._load(observations, grid)

        def look(number: int) -> AssetError | None:
            try:
                for asset in self.dtypes:
                    _read_chunks(loaded, 1, asset, [number])
            except AssetError as error:
                return error
            return None

        broken: dict[str, AssetError] = {}
        numbers = range(len(observations))
        with ThreadPoolExecutor(self.workers) as pool:
            for start in numbers[::_LOOKS]:
                errors = list(pool.map(look, numbers[start : start + _LOOKS]))
                unavailable = [error for error in errors if isinstance(error, AssetUnavailable)]
                if len(unavailable) == _LOOKS:
                    raise unavailable[0]
                broken |= {observations[start + i].id: error for i, error in enumerate(errors) if error}
        return broken

    def _load(self, observations: Sequence[Observation], grid: Grid) -> xarray.Dataset:
        shrink = {"uint8": SHRINK_CLASSES, "uint16": SHRINK_BANDS}
        loaded: xarray.Dataset = odc.stac.load(
            [self._build_item(observation) for observation in observations],
            bands=list(self.dtypes),
            geobox=GeoBox(grid.shape, Affine(*grid.transform), grid.crs),
            chunks={"time": 1, "y": grid.shape[0], "x": grid.shape[1]},
            groupby="id",  # by its place in the list: each separately, in the given order
            resampling={name: shrink[dtype] for name, dtype in self.dtypes.items()},
            driver=self.driver,
        )
        return loaded

    def _build_item(self, observation: Observation) -> pystac.Item:
        """Return the minimum that odc-stac needs: what we checked, and nothing else of the published item."""
        scene, grid = observation.scene, observation.scene.grid
        hrefs = {**observation.hrefs, MASK_ASSET: self.mask_paths[observation.id]}
        placed = {"proj:code": grid.crs, "proj:shape": grid.shape, "proj:transform": grid.transform}
        assets = {
            # Without its type a band would be loaded as float32.
            name: pystac.Asset(
                hrefs[name],
                media_type=pystac.MediaType.COG,
                extra_fields={"data_type": dtype, "nodata": 0, **placed},
            )
            for name, dtype in self.dtypes.items()
        }
        footprint, extensions = dict(scene.footprint), [PROJECTION_URI]
        return pystac.Item(
            scene.id, footprint, None, scene.datetime, {}, stac_extensions=extensions, assets=assets
        )


def _read_chunks(
    loaded: xarray.Dataset, workers: int, asset: str, numbers: Sequence[int]
) -> NDArray[np.unsignedinteger]:
    chunks: dask.array.Array = loaded[asset].data
    pixels = np.empty((len(numbers), *chunks.shape[1:]), chunks.dtype)
    # Into one array as they arrive: collected first, they would be in memory twice.
    dask.array.store(
        [chunks.blocks[list(numbers)]], [pixels], lock=False, scheduler="threads", num_workers=workers
    )
    return pixels


@contextmanager
def open_blocks(
    store: ObjectReader, settings: Settings, request: MosaicRequest, observations: Sequence[Observation]
) -> Iterator[BlockReader]:
    """Make the masks local and yield what opens blocks.

    Source assets are read from where items of the source and the store may point, from the store's own folder,
    and below ``request.files``.

    Raises:
        SettingsError: ``request.files`` is not a folder.
        BrokenScenes: Masks are not in the store.
    """
    files = request.files
    if files is not None and not files.is_dir():
        raise SettingsError(f"--files {files}: no such folder")
    sources = build_reader((settings.stac_api_url, store.url), files)
    dtypes = {**dict.fromkeys(request.bands, "uint16"), MASK_ASSET: "uint8"}
    if request.truth:
        dtypes[request.truth] = "uint8"
    with _open_masks(store, observations) as (folder, paths), warnings.catch_warnings():
        # rasterio 1.4.4 ignores this one for each warp separately, in a way that threads undo for each other.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        item_ids = {href: each.id for each in observations for href in each.hrefs.values()}
        item_ids |= {path: item_id for item_id, path in paths.items()}
        readers = ((f"{folder}/", AssetReader(local_root=folder)), ("", sources))
        stated = {
            href: each.scene.asset_grids[name] for each in observations for name, href in each.hrefs.items()
        }
        yield BlockReader(CheckedDriver(readers, item_ids, stated=stated), paths, dtypes, settings.workers)


@contextmanager
def _open_masks(
    store: ObjectReader, observations: Sequence[Observation]
) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Yield the masks' folder, and their paths by item id; a store that is not a folder gets a temporary one.

    The mask of a full tile takes 0.3 MB.
    """
    if isinstance(store, LocalStore):
        yield store.root, {each.id: str(store.root / each.mask_key) for each in observations}
        return
    with tempfile.TemporaryDirectory(prefix="cloudmask-") as name:
        folder = Path(name).resolve()
        paths = {each.id: str(folder / f"{each.id}.tif") for each in observations}
        broken: dict[str, CloudmaskError] = {}

        def copy(observation: Observation) -> None:
            stored = store.read_object(observation.mask_key)
            if stored is not None:
                Path(paths[observation.id]).write_bytes(stored.body)
                return
            broken[observation.id] = StoreRefused(
                f"{store.url}: the mask of {observation.id} is missing; run cloudmask check --repair"
            )

        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            list(pool.map(copy, observations))
        if broken:
            raise BrokenScenes(broken)
        yield folder, paths
