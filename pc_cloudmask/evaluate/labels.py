"""Reference labels on a mask's grid: rasters, or another mask."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from pc_cloudmask.errors import AssetRefused, SettingsError
from pc_cloudmask.evaluate.confusion import Confusion, Label, count_confusion, sum_confusions
from pc_cloudmask.evaluate.layout import ClassMap, LabelLayout, SceneNames, refuse_values
from pc_cloudmask.raster.gdal import Unreadable, read_asset
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.grid import Grid

#: Rows of a mask that are compared at a time, whatever its size.
BLOCK_ROWS = 512
#: No label; ``Label`` has fewer values.
_UNNAMED = 255


class Reference(Protocol):
    """What a mask of one scene is compared with."""

    def count(self, classes: NDArray[np.uint8], grid: Grid) -> Confusion:
        """Compare it with a mask, uint8 ``(height, width)`` of ``MaskClass`` on ``grid``.

        Raises:
            AssetRefused: it cannot be read, or lies elsewhere.
            SettingsError: it has values whose meaning nobody told.
        """
        ...

    def locate(self, grid: Grid) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
        """Yield rows, columns and labels of what it has on ``grid``, for a picture; the arrays broadcast."""
        ...


@dataclass(frozen=True, slots=True)
class MaskReference:
    """Another mask on the same grid, uint8 ``(height, width)`` of ``MaskClass``."""

    classes: NDArray[np.uint8]

    def count(self, classes: NDArray[np.uint8], grid: Grid) -> Confusion:  # noqa: ARG002 - of the protocol
        """Compare both, block by block; see ``Reference``."""
        blocks = [slice(row, row + BLOCK_ROWS) for row in range(0, len(classes), BLOCK_ROWS)]
        return sum_confusions(count_confusion(self.classes[block], classes[block]) for block in blocks)

    def locate(self, grid: Grid) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
        """Yield all of it."""
        rows, columns = np.arange(grid.shape[0]), np.arange(grid.shape[1])
        yield rows[:, np.newaxis], columns[np.newaxis], self.classes


@dataclass(frozen=True, slots=True)
class RasterReference:
    """GeoTIFFs of labels, on whatever grids; a pixel of the mask takes the label that its centre lies on."""

    paths: Sequence[Path]
    classes: ClassMap

    def count(self, classes: NDArray[np.uint8], grid: Grid) -> Confusion:
        """Compare each file with the mask, block by block; see ``Reference``."""
        return sum_confusions(
            count_confusion(labels, classes[rows]) for rows, labels in self._read_blocks(grid)
        )

    def locate(self, grid: Grid) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
        """Yield blocks of rows."""
        columns = np.arange(grid.shape[1])[np.newaxis]
        for rows, labels in self._read_blocks(grid):
            yield np.arange(rows.start, rows.stop)[:, np.newaxis], columns, labels

    def _read_blocks(self, grid: Grid) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        for path in self.paths:
            found, unnamed = False, set[int]()
            for row in range(0, grid.shape[0], BLOCK_ROWS):
                rows = slice(row, min(row + BLOCK_ROWS, grid.shape[0]))
                values, inside, undeclared = self._read_rows(path, grid, rows)
                labels = _map_values(values, self.classes, undeclared)
                labels[~inside] = Label.UNKNOWN
                unnamed |= set(np.unique(values[labels == _UNNAMED]).tolist())
                found |= bool(inside.any())
                if not unnamed:
                    yield rows, labels
            if unnamed:
                raise refuse_values(path, unnamed)
            if not found:
                raise AssetRefused(
                    f"{path}: lies nowhere on the mask's grid, {grid.crs} {describe_extent(grid)}"
                )

    @staticmethod
    def _read_rows(
        path: Path, grid: Grid, rows: slice
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_], float | None]:
        """Return the file's values on rows of the grid, where there are any, and what it declares as no data."""

        def read() -> tuple[NDArray[np.generic], NDArray[np.bool_], float | None]:
            with rasterio.open(path, driver="GTiff") as dataset:
                check_raster(dataset)
                if not dataset.crs:
                    raise Unsuitable("has no CRS")
                height, width = grid.shape
                # Its own no-data value may be a class: alpha alone tells where the file has pixels.
                with WarpedVRT(
                    dataset,
                    crs=grid.crs,
                    transform=Affine(*grid.transform),
                    height=height,
                    width=width,
                    resampling=Resampling.nearest,
                    src_nodata=None,
                    nodata=None,
                    add_alpha=True,
                ) as warped:
                    window = Window(0, rows.start, width, rows.stop - rows.start)
                    values, alpha = warped.read(1, window=window), warped.read(warped.count, window=window)
                return values, alpha > 0, dataset.nodata

        try:
            return read_asset(read)
        except (Unsuitable, Unreadable) as error:
            raise AssetRefused(f"{path}: {error}") from error


def _map_values(
    values: NDArray[np.generic], classes: ClassMap, no_data: float | None = None
) -> NDArray[np.uint8]:
    """Return the labels of integer ``values``; ``_UNNAMED`` where ``classes`` has none.

    A value that the file declares as no data is unknown, unless ``classes`` names it.
    """
    limits = np.iinfo(values.dtype.type)  # type: ignore[type-var]
    table = np.full(limits.max - limits.min + 1, _UNNAMED, np.uint8)
    if no_data is not None and no_data == math.floor(no_data) and limits.min <= no_data <= limits.max:
        table[int(no_data) - limits.min] = Label.UNKNOWN
    for text, label in classes.items():
        value = parse_integer(text)
        if value is not None and limits.min <= value <= limits.max:
            table[value - limits.min] = label
    return table[values.astype(np.int32) - limits.min]


def parse_integer(text: str) -> int | None:
    """Return the integer that ``text`` is, be it written 2.0; None for another text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def describe_extent(grid: Grid) -> str:
    """Return where the grid lies, in its CRS."""
    west, south, east, north = grid.bounds
    return f"{west:.0f} to {east:.0f}, {south:.0f} to {north:.0f}"


class LabelSource(Protocol):
    """Labels of several scenes."""

    def match(self, ids: Sequence[str], only: bool) -> dict[str, Reference]:
        """Return the reference of each scene of ``ids`` that has one.

        With ``only``, ``ids`` is the one scene that was asked for: labels that do not say whose they are, are its.

        Raises:
            SettingsError: no scene has any.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabelRasters:
    """A file of labels, or a folder of them whose names say to which scenes they belong."""

    path: Path
    layout: LabelLayout

    def match(self, ids: Sequence[str], only: bool) -> dict[str, Reference]:
        """Return the files of each scene; see ``LabelSource``."""
        if self.path.is_file():
            paths = [self.path]
        else:
            paths = sorted(path for path in self.path.glob(self.layout.rasters.files) if path.is_file())
        if not paths:
            raise SettingsError(f"--labels {self.path}: no file there is {self.layout.rasters.files}")
        names, found = SceneNames(ids), dict[str, list[Path]]()
        for path in paths:
            shown = path.name if self.path.is_file() else path.relative_to(self.path).as_posix()
            item_id = names.find(self.layout.items.get(shown, shown))
            if item_id is None and only and self.path.is_file():
                item_id = ids[0]
            if item_id is not None:
                found.setdefault(item_id, []).append(path)
        if not found:
            raise refuse_names(self.path, paths[0].name, ids)
        return {item_id: RasterReference(some, self.layout.classes) for item_id, some in found.items()}


def refuse_names(path: Path, example: str, ids: Sequence[str]) -> SettingsError:
    """Return the error of labels that name none of the scenes."""
    return SettingsError(
        f"--labels {path}: {example} and its like name none of {len(ids)} scenes, such as {ids[0]}; name labels "
        "after items, or say in [items] of --classes which is whose"
        if ids
        else f"--labels {path}: there is no scene to compare with"
    )
