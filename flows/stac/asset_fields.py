"""The fields of the assets that we publish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.masking.classes import CLASS_STYLES, MaskClass
from flows.masking.inputs import PROBABILITY_NODATA
from flows.scene.grid import Grid

COG_MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
PNG_MEDIA_TYPE = "image/png"
MASK_ROLES = ("data", "data-mask", "cloud", "cloud-shadow", "overview")
"""``overview``: STAC Browser draws the first asset with this role, not the source's ``visual``."""
SHA256_MULTIHASH = "1220"
"""Multihash code of SHA-256 and its length of 32 bytes, in hex."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AssetFile:
    """A file as it lies in the store."""

    key: str
    size: int
    sha256_hex: str


def build_classes() -> list[Fields]:
    """``classification:classes`` of the mask.

    A class without a colour is transparent in STAC Browser, so only what is to be seen has one.
    """
    classes = []
    for mask_class, style in CLASS_STYLES.items():
        fields: Fields = {
            "value": mask_class.value,
            "name": style.name,
            "title": style.title,
            "description": style.description,
        }
        if style.opaque:
            fields["color_hint"] = style.color_hint
        if mask_class is MaskClass.NO_DATA:
            fields["nodata"] = True
        classes.append(fields)
    return classes


def build_mask_asset(file: AssetFile, href: str, grid: Grid) -> Fields:
    """The asset ``cloudmask``."""
    return {
        "href": href,
        "type": COG_MEDIA_TYPE,
        "title": "Cloud and cloud-shadow mask",
        "description": "0 no data, 1 clear, 2 cloud, 3 cloud shadow",
        "roles": list(MASK_ROLES),
        "classification:classes": build_classes(),
        **_raster_fields(grid, MaskClass.NO_DATA.value),
        **build_file_fields(file.size, file.sha256_hex),
    }


def build_probability_asset(file: AssetFile, href: str, grid: Grid) -> Fields:
    """The asset ``cloud-probability``, from which the mask can be made again with other thresholds."""
    return {
        "href": href,
        "type": COG_MEDIA_TYPE,
        "title": "Cloud probability",
        "description": "s2cloudless cloud probability in percent, 255 no data",
        "roles": ["data", "cloud"],
        **_raster_fields(grid, PROBABILITY_NODATA),
        **build_file_fields(file.size, file.sha256_hex),
    }


def build_preview_asset(file: AssetFile, href: str) -> Fields:
    """The asset ``cloudmask-preview``."""
    return {
        "href": href,
        "type": PNG_MEDIA_TYPE,
        "title": "Preview of the mask",
        "roles": ["thumbnail"],
        **build_file_fields(file.size, file.sha256_hex),
    }


def _raster_fields(grid: Grid, nodata: int) -> Fields:
    return {
        "gsd": grid.pixel_size_m,
        "proj:code": grid.crs,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform),
        "proj:bbox": list(grid.bounds),
        "data_type": "uint8",
        "nodata": nodata,
    }


def build_file_fields(size: int, sha256_hex: str) -> Fields:
    """The file extension's fields."""
    return {"file:size": size, "file:checksum": f"{SHA256_MULTIHASH}{sha256_hex}"}
