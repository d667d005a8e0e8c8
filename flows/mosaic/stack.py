"""The observations of one block, read band by band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import dask.array
import numpy as np
import odc.stac
import pystac
import xarray
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from flows.mosaic.driver import CheckedDriver
from flows.mosaic.observation import Observation
from flows.ports import Item
from flows.scene.grid import Grid, Shape
from flows.stac.extensions import PROJECTION_URI, STAC_VERSION
from flows.stac.layout import MASK_ASSET

_TIFF = "image/tiff; application=geotiff"
_CLASSES, _VALUES = "uint8", "uint16"


class BlockStack(Protocol):
    """The pixels of a block's observations, which have numbers from 0 on."""

    @property
    def shape(self) -> Shape:
        """Height and width of the block."""
        ...

    def read_values(self, band: str, numbers: Sequence[int]) -> NDArray[np.uint16]:
        """Digital numbers of some observations, ``(observation, height, width)``, 0 where there is none."""
        ...

    def read_classes(self, asset: str, numbers: Sequence[int]) -> NDArray[np.uint8]:
        """Classes likewise; of several pixels in one of the block, the highest: cloud or shadow."""
        ...


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
