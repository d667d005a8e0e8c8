"""The job of one scene as one writes it with the usual libraries."""

from __future__ import annotations

import io
from typing import Any

import boto3
import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray
from pystac.stac_io import DefaultStacIO
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from benchmarks.cog import translate_cog
from benchmarks.full_scene import Item
from benchmarks.mask_core import compose_with_scipy
from pc_cloudmask.masking.classes import CLASS_STYLES, CloudInputs
from pc_cloudmask.scene.grid import Grid

SHAPE, COARSE_SHAPE = (5490, 5490), (1098, 1098)
PREVIEW_STEP = 11
DARK_DN, WATER = 1500, 6


class S3StacIO(DefaultStacIO):
    """pystac's reading and writing in a bucket, as its documentation has it."""

    def __init__(self) -> None:
        super().__init__()
        self.s3 = boto3.client("s3")

    def read_text(self, source: Any, *_args: Any, **_options: Any) -> str:
        """Return the text of an object."""
        bucket, key = _split(source)
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()

    def write_text(self, dest: Any, txt: str, *_args: Any, **_options: Any) -> None:
        """Write the text of an object."""
        bucket, key = _split(dest)
        self.s3.put_object(Bucket=bucket, Key=key, Body=txt.encode(), ContentType="application/json")


class NaivePipeline:
    """Publishes scenes into one bucket, which it has for itself."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._root = f"s3://{bucket}/catalog.json"
        self._io = S3StacIO()
        extent = pystac.Extent(
            pystac.SpatialExtent([[-180.0, -90.0, 180.0, 90.0]]), pystac.TemporalExtent([None, None])
        )
        collection = pystac.Collection("cloudmask", "Cloud masks", extent)
        catalog = pystac.Catalog("root", "Cloud masks")
        catalog.add_child(collection)
        self._save(catalog)

    def publish(self, item: Item) -> None:
        """Mask, COG, preview, item, catalogs."""
        source = pystac.Item.from_dict(item)
        grid = Grid(
            f"EPSG:{item['properties']['proj:epsg']}", tuple(item["assets"]["SCL"]["proj:transform"]), SHAPE
        )
        classes = _compose_mask(source)
        files = {
            "cloudmask.tif": (translate_cog(classes, grid), "image/tiff"),
            "preview.png": (_draw_preview(classes, grid), "image/png"),
        }
        for name, (body, media_type) in files.items():
            key = f"cloudmask/{source.id}/{name}"
            self._io.s3.upload_fileobj(
                io.BytesIO(body), self._bucket, key, ExtraArgs={"ContentType": media_type}
            )
            href = f"s3://{self._bucket}/{key}"
            source.add_asset(name.partition(".")[0], pystac.Asset(href, media_type=media_type))
        values, counts = np.unique(classes, return_counts=True)
        source.properties["cloudmask:counts"] = {
            str(value): int(count) for value, count in zip(values, counts, strict=True)
        }
        catalog = pystac.Catalog.from_file(self._root, stac_io=self._io)
        (collection,) = catalog.get_collections()
        collection.add_item(source)
        collection.update_extent_from_items()
        self._save(catalog)

    def _save(self, catalog: pystac.Catalog) -> None:
        catalog.normalize_hrefs(self._root.rpartition("/")[0])
        catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED, stac_io=self._io)


def _compose_mask(item: pystac.Item) -> NDArray[np.uint8]:
    nir = _read(item, "B08", SHAPE, Resampling.average)
    dark = (nir < DARK_DN) & (_read(item, "SCL", SHAPE, Resampling.nearest) != WATER)
    probability_pct = _read(item, "cloud-probability", SHAPE, Resampling.average)
    coarse_pct = _read(item, "cloud-probability", COARSE_SHAPE, Resampling.average)
    inputs = CloudInputs(probability_pct, dark, coarse_pct)
    return compose_with_scipy(inputs, item.properties["s2:mean_solar_azimuth"])


def _read(item: pystac.Item, key: str, shape: tuple[int, int], resampling: Resampling) -> NDArray[Any]:
    with rasterio.open(item.assets[key].href) as dataset:
        pixels: NDArray[Any] = dataset.read(1, out_shape=shape, resampling=resampling)
    return pixels


def _draw_preview(classes: NDArray[np.uint8], grid: Grid) -> bytes:
    reduced = classes[::PREVIEW_STEP, ::PREVIEW_STEP]
    height, width = reduced.shape
    with MemoryFile() as file:
        with file.open(
            driver="PNG",
            count=1,
            dtype="uint8",
            height=height,
            width=width,
            nodata=0,
            transform=Affine(*grid.transform),
        ) as dataset:
            dataset.write(reduced, 1)
            dataset.write_colormap(1, {int(value): style.color for value, style in CLASS_STYLES.items()})
        return bytes(file.read())


def _split(location: Any) -> tuple[str, str]:
    bucket, _, key = str(location).removeprefix("s3://").partition("/")
    return bucket, key
