"""How odc-stac reads masks for a cube; a separate module, since it takes a second to import."""

from __future__ import annotations

from typing import Any

from odc.loader import RasterLoadParams, RasterSource, RioDriver, RioReader


class FullResolutionDriver(RioDriver):
    """odc-loader's own raster reader, but without overviews: those of classes may miss a cloud."""

    def open(self, src: RasterSource, ctx: Any) -> Any:
        """Return a reader of one asset, which is not opened yet."""
        return _FullResolutionReader(RioReader(src, ctx))


class _FullResolutionReader:
    def __init__(self, reader: RioReader) -> None:
        self._reader = reader

    def read(self, cfg: RasterLoadParams, dst_geobox: Any, **options: Any) -> Any:
        return self._reader.read(cfg.patch(use_overviews=False), dst_geobox, **options)
