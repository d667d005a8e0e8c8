"""Masks and masked bands as georeferenced arrays, for xarray, rioxarray and odc-geo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
from numpy.typing import NDArray

from pc_cloudmask.errors import AssetRefused, SettingsError
from pc_cloudmask.masking.classes import CLASS_STYLES, MaskClass
from pc_cloudmask.masking.clouds_and_shadows import REFLECTANCE_SCALE
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.scene import MASK_ASSET, reflectance_offset_dn
from pc_cloudmask.version import tell_extra
from pc_cloudmask.viewing.library import ODC_STAC_CONFIG, find_mask_grid, read_classes

if TYPE_CHECKING:
    import xarray

#: Pixel size of a mask, in metres: on coarser grids a cell is cloud or shadow if any of its pixels is.
_MASK_PIXEL_M = 20.0
#: Arguments of ``odc.stac.load`` about the place, which the first load has settled.
_PLACE = frozenset(
    {"crs", "resolution", "anchor", "geobox", "like", "bbox", "geopolygon", "intersects"}
    | {"lon", "lat", "x", "y"}
)


def read_mask(item: pystac.Item) -> xarray.DataArray:
    """Return the mask of an item of ``find_items``; its ``values`` are the plain pixels.

    Returns:
        uint8 ``(y, x)``: 0 no data, 1 clear, 2 cloud, 3 cloud shadow, with coordinates of the pixels' centres, the
        item's ``time``, and ``spatial_ref``, from which rioxarray and odc-geo know the CRS. The attributes are ``crs``,
        such as ``EPSG:32722``, ``transform`` (a to f of the affine), ``nodata``, and the classes as in the CF
        conventions: ``flag_values``, ``flag_meanings``.

    Raises:
        SettingsError: xarray is not installed.
        StoreRefused: There is no such asset, or its file is missing.
        StoreUnavailable: No answer.
        AssetRefused: The file is not a mask, or not on the grid that the item states.
    """
    try:
        import xarray  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise SettingsError(f"read_mask needs xarray: {tell_extra('mosaic')}") from error
    classes, grid = read_classes(item), find_mask_grid(item)
    if classes.shape != grid.shape:
        raise AssetRefused(f"item {item.id}: its mask is not on the grid that the item states")
    y, x = _find_centres(grid)
    array = xarray.DataArray(
        classes,
        dims=("y", "x"),
        coords={
            "y": ("y", y, {"units": "metre", "standard_name": "projection_y_coordinate"}),
            "x": ("x", x, {"units": "metre", "standard_name": "projection_x_coordinate"}),
            # 0, as GDAL and rioxarray write it: xarray drops a scalar that differs between two operands.
            "spatial_ref": ((), 0, _describe_crs(grid)),
        },
        name=MASK_ASSET,
        attrs={"crs": grid.crs, "transform": grid.transform, **_describe_classes()},
    )
    array.encoding["grid_mapping"] = "spatial_ref"
    if item.datetime is not None:
        array = array.assign_coords(time=np.datetime64(item.datetime.replace(tzinfo=None), "ns"))
    return array


def _describe_classes() -> dict[str, Any]:
    """Return the attributes that say what the pixels of a mask mean."""
    return {
        "long_name": "cloud and cloud-shadow mask",
        "nodata": MaskClass.NO_DATA.value,
        "flag_values": np.array([each.value for each in CLASS_STYLES], np.uint8),
        "flag_meanings": " ".join(style.name for style in CLASS_STYLES.values()),
    }


def _find_centres(grid: Grid) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the northings and eastings of the pixels' centres."""
    a, _, c, _, e, f = grid.transform
    height, width = grid.shape
    return f + e * (np.arange(height) + 0.5), c + a * (np.arange(width) + 0.5)


def _describe_crs(grid: Grid) -> dict[str, str]:
    """Return the attributes of the grid mapping, as GDAL and rioxarray write them."""
    from rasterio.crs import CRS  # noqa: PLC0415

    wkt = CRS.from_string(grid.crs).to_wkt()
    a, b, c, d, e, f = grid.transform
    return {"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": f"{c} {a} {b} {f} {d} {e}"}


def load_cube(
    items: Iterable[pystac.Item],
    bands: str | Sequence[str] = ("B04", "B03", "B02"),
    *,
    keep: Iterable[int] = (MaskClass.CLEAR,),
    groupby: str = "solar_day",
    chunks: Mapping[str, Any] | None = None,
    **options: Any,
) -> xarray.Dataset:
    """Return bands of items of ``find_items`` as masked reflectances; lazily, with Dask.

    Scenes of all processing baselines are harmonised: from 04.00 on, 1000 is subtracted from the digital numbers. If
    the cells of the cube are larger than those of the mask, a cell is cloud or shadow if any of its pixels is, and
    bands are averaged. Assets on the Planetary Computer are signed.

    Args:
        items: If several of one time overlap, earlier ones take precedence.
        bands: Reflectances, B01 to B12.
        keep: Classes of the mask to keep: 1 clear, 2 cloud, 3 cloud shadow.
        groupby: What makes one time slice: ``solar_day``, ``time``, ``id``, or any other of odc-stac's.
        chunks: Dask's, such as ``{"x": 2048, "y": 2048}``.
        options: Other arguments of ``odc.stac.load``: ``bbox``, ``resolution``, ``crs``, ``geobox``, ``resampling``, …

    Returns:
        float32 ``(time, y, x)`` for each band, NaN where nothing is kept; and ``cloudmask``, the uint8 classes.

    Raises:
        SettingsError: odc-stac is not installed, there is no item, or a band is not a reflectance.
    """
    try:
        import odc.stac  # noqa: F401, PLC0415 - of an extra
    except ImportError as error:
        raise SettingsError(f"load_cube needs odc-stac and dask: {tell_extra('mosaic')}") from error
    from pc_cloudmask.mosaic.compose import check_bands  # noqa: PLC0415

    names, items = [bands] if isinstance(bands, str) else list(bands), list(items)
    check_bands(names)
    return _load(items, names, list(keep), options | {"groupby": groupby, "chunks": dict(chunks or {})})


def _load(
    items: list[pystac.Item], names: list[str], keep: Sequence[int], options: dict[str, Any]
) -> xarray.Dataset:
    """Load the items of each offset separately, all on one grid."""
    import odc.stac  # noqa: PLC0415
    import planetary_computer  # noqa: PLC0415
    import xarray  # noqa: PLC0415

    if not items:
        raise SettingsError("no items: nothing to load")
    if lacking := [name for name in names if not any(name in item.assets for item in items)]:
        raise SettingsError(f"bands: no item has an asset {', '.join(lacking)}")
    # Without their type, bands would arrive as float32.
    types = {name: {"data_type": "uint16", "nodata": 0} for name in names}
    defaults = {
        "patch_url": planetary_computer.sign,
        "resampling": "average",
        "stac_cfg": {name: {"assets": {**of["assets"], **types}} for name, of in ODC_STAC_CONFIG.items()},
        "preserve_original_order": True,
    }
    options = defaults | options
    geobox = odc.stac.load(items, bands=names, **options).odc.geobox
    placed = {name: value for name, value in options.items() if name not in _PLACE} | {"geobox": geobox}
    by_offset: dict[int, list[pystac.Item]] = defaultdict(list)
    for item in items:
        by_offset[reflectance_offset_dn(str(item.properties.get("s2:processing_baseline", "")))].append(item)
    parts = [_load_masked(group, names, offset, keep, placed) for offset, group in by_offset.items()]
    return parts[0] if len(parts) == 1 else xarray.concat(parts, "time").sortby("time")


def _load_masked(
    items: list[pystac.Item], bands: list[str], offset_dn: int, keep: Iterable[int], options: dict[str, Any]
) -> xarray.Dataset:
    """Return the cube of items with one offset on the grid ``options["geobox"]``."""
    import odc.stac  # noqa: PLC0415

    cube = odc.stac.load(items, bands=bands, **options)
    is_coarse = abs(options["geobox"].resolution.x) > _MASK_PIXEL_M or options["geobox"].crs.geographic
    # An overview of classes may miss a cloud.
    mask_options = options | {"resampling": "max" if is_coarse else "nearest", "use_overviews": False}
    mask = odc.stac.load(items, bands=[MASK_ASSET], **mask_options)[MASK_ASSET]
    kept = mask.isin([int(each) for each in keep])
    for band in bands:
        attributes = {"grid_mapping": "spatial_ref", "long_name": f"surface reflectance of {band}"}
        numbers = cube[band]
        reflectance = (numbers.astype("float32") + np.float32(offset_dn)) / np.float32(REFLECTANCE_SCALE)
        cube[band] = reflectance.where(kept & (numbers != 0)).assign_attrs(attributes)
    cube[MASK_ASSET] = mask
    return cube
