"""How odc-stac reads our assets.

odc-stac's own driver opens whatever an href names, by any driver of GDAL, and logs the href with its
signature where that fails. This one reads GeoTIFFs that passed our rules, signs when it reads, and
raises our own errors.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import dask.array
import numpy as np
import odc.stac
import pystac
import rasterio
import xarray
from numpy.typing import NDArray
from odc.geo.converters import rio_geobox
from odc.geo.geobox import GeoBox
from odc.geo.overlap import ReprojectInfo, compute_reproject_roi
from odc.geo.roi import roi_is_empty, roi_shape, w_
from odc.loader import RasterLoadParams, RasterSource
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from pc_cloudmask.catalog.fields import PROJECTION_URI, STAC_VERSION
from pc_cloudmask.errors import AssetRefused, AssetUnavailable, SettingsError, StoreRefused
from pc_cloudmask.mosaic.observation import Observation
from pc_cloudmask.raster.gdal import GDAL_OPTIONS, Unreadable, gdal_environment, read_asset
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.grid import Grid, Shape
from pc_cloudmask.scene.ids import MASK_ASSET
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.assets import AssetReader, renew_href, sign_href
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import ObjectReader
from pc_cloudmask.text import LOOPBACK_HOSTS, unsigned_href

logger = logging.getLogger(__name__)
#: Where in the grid there are pixels, and the pixels.
Read = tuple[tuple[Any, Any], NDArray[Any]]
_ATTEMPTS, _PAUSE_S = 3, 1.0
_ALIGNMENT_PX = 0.05
#: From so many of the raster's pixels to one of the grid's on, they are summed up, not picked or blended.
_SHRINK_FROM = 1.5
_OVERVIEW_LEVELS = 16
_WARP_MB = 16
#: By the name that a load asks for: ``max`` of a mask's classes is cloud or shadow where any of it is.
SHRINK: Final[Mapping[str, Resampling]] = {"average": Resampling.average, "max": Resampling.max}


@dataclass(frozen=True, eq=False)
class CheckedDriver:
    """A reader driver of odc-loader; for Dask's threads, not for other processes.

    ``readers`` says which rules an href must pass by how it begins; the first that fits counts.
    ``item_ids`` names the items of hrefs in errors.
    """

    readers: tuple[tuple[str, AssetReader], ...]
    item_ids: Mapping[str, str]
    pause: Callable[[float], None] = field(default=time.sleep)

    md_parser: None = None
    dask_reader: None = None
    aux_reader: None = None

    def new_load(self, geobox: GeoBox, *, chunks: dict[str, int] | None = None) -> None:
        """No state is shared by the reads of a load."""

    def finalise_load(self, load_state: None) -> None:
        """Nothing to end."""

    def capture_env(self) -> dict[str, Any]:
        """Nothing of the caller's environment: it may hold credentials."""
        return {}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: None) -> Iterator[None]:  # noqa: ARG002
        """GDAL as every asset is read."""
        with gdal_environment(**GDAL_OPTIONS):
            yield

    def open(self, src: RasterSource, ctx: None) -> _Reader:  # noqa: ARG002
        """A reader of one asset."""
        reader = next(reader for prefix, reader in self.readers if src.uri.startswith(prefix))
        return _Reader(src.uri, self.item_ids.get(src.uri, "?"), reader, self.pause)


@dataclass(frozen=True, slots=True)
class _Reader:
    href: str
    item_id: str
    assets: AssetReader
    pause: Callable[[float], None]

    def read(
        self,
        cfg: RasterLoadParams,
        dst_geobox: GeoBox,
        *,
        dst: NDArray[Any] | None = None,
        selection: Any = None,
    ) -> Read:
        """The asset's pixels where it reaches into the grid; its no-data value is 0.

        Raises:
            AssetUnavailable, AssetRefused: see ``AssetReader``.
        """
        assert dst is None  # nosec B101 # loads through Dask give no array to fill
        assert selection is None  # nosec B101 # only for assets of several bands
        for attempt in range(_ATTEMPTS):
            name = self.assets.find_readable(self.href, item_id=self.item_id)
            read = partial(read_raster, name, dst_geobox, SHRINK[cfg.resampling])
            try:
                return read_asset(read, again=attempt > 0)
            except Unsuitable as error:
                raise AssetRefused(f"item {self.item_id}: {unsigned_href(self.href)}: {error}") from error
            except Unreadable as error:
                if not name.startswith("/vsicurl/"):
                    raise AssetRefused(
                        f"item {self.item_id}: {self.href}: not a GeoTIFF that can be read: {error}"
                    ) from error
                problem = error
            logger.info("%s: %s; attempt %d", unsigned_href(self.href), problem, attempt + 1)
            self.pause(_PAUSE_S * 2**attempt)
        raise AssetUnavailable(
            f"item {self.item_id}: {unsigned_href(self.href)}: the transfer or the decoding failed: {problem}"
        ) from problem


def read_raster(name: str, geobox: GeoBox, shrink: Resampling) -> Read:
    """Band 1 of the GeoTIFF ``name`` on a grid of any CRS, 0 where it has no data.

    Pixels that coincide are copied; finer ones are summed up by ``shrink``; coarser ones are repeated in
    their own CRS. Across CRSs ``average`` becomes bilinear and ``max``, which is for classes, nearest.

    Raises:
        Unsuitable: several bands, no CRS, another dtype than Sentinel-2's, too large.
        rasterio.errors.RasterioError: GDAL could not open or decode it.
    """
    with rasterio.open(name, driver="GTiff") as dataset:
        check_raster(dataset)
        if dataset.crs is None:
            raise Unsuitable("has no CRS")
        placement = compute_reproject_roi(rio_geobox(dataset), geobox, ttol=_ALIGNMENT_PX)
        # Overviews of a mask are nearest neighbours, which may miss a cloud.
        level = _find_overview(dataset, placement.read_shrink) if shrink is Resampling.average else None
        if level is None:
            return _read_placed(dataset, geobox, placement, shrink)
    with rasterio.open(name, driver="GTiff", overview_level=level) as overview:
        check_raster(overview)
        placement = compute_reproject_roi(rio_geobox(overview), geobox, ttol=_ALIGNMENT_PX)
        return _read_placed(overview, geobox, placement, shrink)


def _find_overview(dataset: DatasetReader, shrink: int) -> int | None:
    """The coarsest overview that is no coarser than the grid, as in odc-loader."""
    fitting = [level for level, factor in enumerate(dataset.overviews(1)) if factor <= shrink]
    return fitting[-1] if fitting and len(fitting) <= _OVERVIEW_LEVELS else None


def _read_placed(
    dataset: DatasetReader, geobox: GeoBox, placement: ReprojectInfo, shrink: Resampling
) -> Read:
    roi = placement.roi_dst
    pixels = np.zeros(roi_shape(roi), dataset.dtypes[0])
    if roi_is_empty(roi) or roi_is_empty(placement.roi_src):
        return roi, pixels
    nodata = 0 if dataset.nodata is None else dataset.nodata
    if placement.paste_ok and placement.read_shrink == 1:
        dataset.read(1, out=pixels, window=w_[placement.roi_src])
        pixels[pixels == nodata] = 0
        return roi, pixels
    part = geobox[roi]
    if (repeats := _count_repeats(dataset, part)) is not None:
        _read_repeated(dataset, part, repeats, pixels)
        pixels[pixels == nodata] = 0
        return roi, pixels
    # Not ``reproject`` into an array: it silences a warning of rasterio's in a way that threads trip over.
    with WarpedVRT(
        dataset,
        src_nodata=nodata,
        nodata=0,
        crs=str(part.crs),
        transform=part.transform,
        height=part.shape[0],
        width=part.shape[1],
        resampling=_choose_resampling(dataset, part, placement, shrink),
        warp_mem_limit=_WARP_MB,
    ) as warped:
        warped.read(1, out=pixels)
    return roi, pixels


def _count_repeats(dataset: DatasetReader, part: GeoBox) -> int | None:
    """How often a pixel of the raster comes again in both directions, where its edges are ``part``'s too.

    A mask of 20 m on bands of 10 m is the usual case, which GDAL's warper takes five times as long for.
    """
    there, here = dataset.transform, part.transform
    repeats = round(there.a / here.a)
    aligned = (
        rio_geobox(dataset).crs == part.crs
        and repeats > 1
        and np.allclose(tuple(there)[:6], (repeats * here.a, 0, there.c, 0, repeats * here.e, there.f))
        and np.allclose(_find_offset(dataset, part), np.rint(_find_offset(dataset, part)), atol=_ALIGNMENT_PX)
    )
    return repeats if aligned else None


def _find_offset(dataset: DatasetReader, part: GeoBox) -> NDArray[np.float64]:
    """Row and column, in pixels of ``part``, at which it begins in the raster."""
    there, here = dataset.transform, part.transform
    return np.array([(here.f - there.f) / here.e, (here.c - there.c) / here.a])


def _read_repeated(dataset: DatasetReader, part: GeoBox, repeats: int, pixels: NDArray[Any]) -> None:
    """Fill ``pixels``, which ``dataset`` covers, with each of its pixels repeated."""
    row, col = np.rint(_find_offset(dataset, part)).astype(int)
    height, width = pixels.shape
    rows, cols = (
        slice(start // repeats, -(-(start + size) // repeats))
        for start, size in ((row, height), (col, width))
    )
    coarse = dataset.read(1, window=w_[rows, cols])
    fine = coarse.repeat(repeats, axis=0).repeat(repeats, axis=1)
    top, left = row % repeats, col % repeats
    pixels[:] = fine[top : top + height, left : left + width]


def _choose_resampling(
    dataset: DatasetReader, geobox: GeoBox, placement: ReprojectInfo, shrink: Resampling
) -> Resampling:
    if placement.scale >= _SHRINK_FROM:
        return shrink
    same_crs = rio_geobox(dataset).crs == geobox.crs
    return Resampling.nearest if same_crs or shrink is Resampling.max else Resampling.bilinear


_TIFF = "image/tiff; application=geotiff"
_CLASSES, _VALUES = "uint8", "uint16"


class OdcBlocks:
    """Opens blocks through odc-stac; a chunk of Dask is one asset of one observation.

    ``mask_hrefs`` says by item id where masks are; ``classified`` names the assets that hold classes.
    """

    def __init__(
        self,
        driver: CheckedDriver,
        mask_hrefs: Mapping[str, str],
        bands: Sequence[str],
        classified: Sequence[str] = (MASK_ASSET,),
        workers: int = 4,
    ) -> None:
        self._driver = driver
        self._mask_hrefs = mask_hrefs
        self._dtypes = {**dict.fromkeys(bands, _VALUES), **dict.fromkeys(classified, _CLASSES)}
        self._workers = workers

    def open_block(self, observations: Sequence[Observation], grid: Grid) -> OdcBlock:
        """The block's stack; no pixel is read yet."""
        items = [self._build_item(observation) for observation in observations]
        loaded = odc.stac.load(
            [pystac.Item.from_dict(item, preserve_dict=False) for item in items],
            bands=list(self._dtypes),
            geobox=GeoBox(grid.shape, Affine(*grid.transform), grid.crs),
            chunks={"time": 1, "y": grid.shape[0], "x": grid.shape[1]},
            groupby="id",  # by its place in the list: each by itself, in the order given
            resampling={
                name: "max" if dtype == _CLASSES else "average" for name, dtype in self._dtypes.items()
            },
            driver=self._driver,
        )
        return OdcBlock(loaded, self._workers)

    def _build_item(self, observation: Observation) -> Item:
        """The least that odc-stac needs: what we checked, nothing else of the published item."""
        scene = observation.scene
        hrefs = {**observation.hrefs, MASK_ASSET: self._mask_hrefs[observation.id]}
        placed = {
            "type": _TIFF,
            "roles": ["data"],
            "proj:code": scene.grid.crs,
            "proj:shape": list(scene.grid.shape),
            "proj:transform": list(scene.grid.transform),
        }
        return {
            "type": "Feature",
            "stac_version": STAC_VERSION,
            "stac_extensions": [PROJECTION_URI],
            "id": observation.id,
            "geometry": dict(scene.footprint),
            "bbox": None,
            "properties": {"datetime": scene.datetime.isoformat()},
            "links": [],
            # Without its type a band would be loaded as float32.
            "assets": {
                name: {"href": hrefs[name], "data_type": dtype, "nodata": 0, **placed}
                for name, dtype in self._dtypes.items()
            },
        }


class OdcBlock:
    """A block as odc-stac loaded it: nothing is computed before it is read."""

    def __init__(self, loaded: xarray.Dataset, workers: int) -> None:
        self._loaded = loaded
        self._workers = workers

    @property
    def shape(self) -> Shape:
        height, width = self._loaded.odc.geobox.shape
        return (height, width)

    def read_values(self, band: str, numbers: Sequence[int]) -> NDArray[np.uint16]:
        """See ``BlockStack``."""
        return self._read(band, numbers)

    def read_classes(self, asset: str, numbers: Sequence[int]) -> NDArray[np.uint8]:
        """See ``BlockStack``."""
        return self._read(asset, numbers)

    def _read(self, asset: str, numbers: Sequence[int]) -> NDArray[Any]:
        chunks: dask.array.Array = self._loaded[asset].data
        pixels = np.empty((len(numbers), *self.shape), chunks.dtype)
        # Into one array as they come: collected first, they would be there twice.
        dask.array.store(
            [chunks.blocks[list(numbers)]],
            [pixels],
            lock=False,
            scheduler="threads",
            num_workers=self._workers,
        )
        return pixels


#: Masks fetched side by side: requests wait for the network, not for the processor.
_READERS = 16


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
