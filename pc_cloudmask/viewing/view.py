"""A published mask drawn on its scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pystac

from pc_cloudmask.errors import MissingField
from pc_cloudmask.masking.files import draw_outlines, reduce_classes
from pc_cloudmask.raster.picture import encode_picture
from pc_cloudmask.scene.grid import Grid, Shape
from pc_cloudmask.scene.ids import MASK_ASSET
from pc_cloudmask.source.assets import AssetReader, read_picture, renew_href, sign_href
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS
from pc_cloudmask.text import LOOPBACK_HOSTS
from pc_cloudmask.viewing.library import read_mask

PICTURE_ASSET = "visual"
#: Longer edge of a picture: a full tile at 100 m.
SIZE_PX = 1098


@dataclass(frozen=True, slots=True)
class View:
    """A PNG of a scene's true colours, its clouds and shadows outlined; ``shape`` is in pixels."""

    png: bytes
    shape: Shape

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.png


def draw_view(item: pystac.Item, size_px: int = SIZE_PX, files: Path | None = None) -> View:
    """The view of a published item, its longer edge at most ``size_px``.

    ``files`` is the folder below which local source files may be read, by default that of the catalog.

    Raises:
        MissingField: the item has no picture.
        AssetUnavailable, AssetRefused: the picture, or the mask, cannot be read.
        StoreRefused, StoreUnavailable: the mask is not there.
    """
    href = item.assets[PICTURE_ASSET].get_absolute_href() if PICTURE_ASSET in item.assets else None
    if href is None:
        raise MissingField(item.id, f"assets.{PICTURE_ASSET}")
    grid = _read_grid(item)
    factor = -(-max(grid.shape) // size_px)
    reduced = grid.at_pixel_size(factor * grid.pixel_size_m)
    picture = read_picture(_build_reader(item, files), href, reduced, item_id=item.id)
    drawn = draw_outlines(picture, reduce_classes(read_mask(item), factor))
    return View(encode_picture(drawn), reduced.shape)


def _read_grid(item: pystac.Item) -> Grid:
    """The mask's grid, as its asset tells it."""
    fields = item.assets[MASK_ASSET].extra_fields
    a, b, c, d, e, f = fields["proj:transform"][:6]
    height, width = fields["proj:shape"]
    return Grid(fields["proj:code"], (a, b, c, d, e, f), (height, width))


def _build_reader(item: pystac.Item, files: Path | None) -> AssetReader:
    """Reads assets from the Planetary Computer, from the catalog's server or folder, and from ``files``."""
    root = item.get_root_link()
    catalog = (root.get_absolute_href() if root is not None else None) or ""
    host = urlsplit(catalog).hostname
    return AssetReader(
        sign_href,
        files or (Path(catalog).parent if catalog.startswith("/") else None),
        renew=renew_href,
        hosts=PLANETARY_COMPUTER_HOSTS | ({host} if host else frozenset()),
        allow_loopback=host in LOOPBACK_HOSTS,
    )
