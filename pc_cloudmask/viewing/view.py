"""A published mask drawn on its scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pystac

from pc_cloudmask.masking.files import draw_outlines, read_true_colour, reduce_classes
from pc_cloudmask.raster.picture import encode_picture
from pc_cloudmask.scene.grid import Shape
from pc_cloudmask.source.assets import build_reader
from pc_cloudmask.source.item import read_scene
from pc_cloudmask.viewing.library import find_mask_grid, read_classes

#: Longer edge of a picture: a full tile at 100 m.
SIZE_PX = 1098


@dataclass(frozen=True, slots=True)
class View:
    """A PNG of a scene in true colour, its clouds and shadows outlined; ``shape`` is in pixels."""

    png: bytes = field(repr=False)
    shape: Shape

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        return self.png


def draw_view(item: pystac.Item, size_px: int = SIZE_PX, files: Path | None = None) -> View:
    """Return the view of a published item, with its longer edge at most ``size_px``.

    ``files`` is the folder below which local source files may be read, by default that of the catalog.

    Raises:
        MissingField: The item has neither a picture nor the bands B04, B03 and B02.
        AssetUnavailable, AssetRefused: The picture, or the mask, cannot be read.
        StoreRefused, StoreUnavailable: The mask is missing.
    """
    grid = find_mask_grid(item)
    factor = -(-max(grid.shape) // size_px)
    reduced = grid.at_pixel_size(factor * grid.pixel_size_m)
    root = item.get_root_link()
    catalog = (root.get_absolute_href() if root is not None else None) or ""
    reader = build_reader((catalog,), files or (Path(catalog).parent if catalog.startswith("/") else None))
    item.make_asset_hrefs_absolute()
    scene = read_scene(item.to_dict(transform_hrefs=False))
    picture = read_true_colour(reader, scene, reduced)
    drawn = draw_outlines(picture, reduce_classes(read_classes(item), factor))
    return View(encode_picture(drawn), reduced.shape)
