"""What masks are compared with, on their grids: rasters of labels, another mask, or points from a CSV."""

from __future__ import annotations

import csv
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from pc_cloudmask.errors import AssetRefused, SettingsError
from pc_cloudmask.evaluate.labels import (
    ClassMap,
    Confusion,
    Label,
    LabelLayout,
    PointColumns,
    SceneNames,
    count_confusion,
    read_layout,
    refuse_values,
    sum_confusions,
)
from pc_cloudmask.raster.gdal import Unreadable, read_asset
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.text import decode_text

#: Rows of a mask that are compared at a time, whatever its size.
BLOCK_ROWS = 512
#: No label; ``Label`` has fewer values.
_UNNAMED = 255
_LONGITUDE_LATITUDE = "EPSG:4326"
#: An index into arrays on a grid: rows, or the rows and columns of points.
Place = slice | tuple[NDArray[np.intp], NDArray[np.intp]]


class Reference(ABC):
    """What a mask of one scene is compared with."""

    @abstractmethod
    def locate(self, grid: Grid) -> Iterator[tuple[Place, NDArray[np.uint8]]]:
        """Yield its parts: their places on ``grid``, and their labels.

        Raises:
            AssetRefused: it cannot be read, or lies elsewhere.
            SettingsError: it has values whose meaning is not given.
        """

    def count(self, classes: NDArray[np.uint8], grid: Grid) -> Confusion:
        """Compare it with a mask, uint8 ``(height, width)`` of ``MaskClass`` on ``grid``; see ``locate``."""
        return sum_confusions(count_confusion(labels, classes[place]) for place, labels in self.locate(grid))


@dataclass(frozen=True, slots=True)
class MaskReference(Reference):
    """Another mask on the same grid, uint8 ``(height, width)`` of ``MaskClass``."""

    classes: NDArray[np.uint8]

    def locate(self, grid: Grid) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Yield blocks of rows; those that only one of two masks has are counted too, which fails."""
        for row in range(0, max(len(self.classes), grid.shape[0]), BLOCK_ROWS):
            rows = slice(row, row + BLOCK_ROWS)
            yield rows, self.classes[rows]


@dataclass(frozen=True, slots=True)
class RasterReference(Reference):
    """GeoTIFFs of labels, on any grids; a pixel of the mask takes the label at its centre."""

    paths: Sequence[Path]
    classes: ClassMap

    def locate(self, grid: Grid) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Yield blocks of rows of each file; see ``Reference``."""
        for path in self.paths:
            found, unnamed = False, set[int]()
            for row in range(0, grid.shape[0], BLOCK_ROWS):
                rows = slice(row, min(row + BLOCK_ROWS, grid.shape[0]))
                values, inside, undeclared = _read_rows(path, grid, rows)
                labels = _map_values(values, self.classes, undeclared)
                labels[~inside] = Label.UNKNOWN
                unnamed |= set(np.unique(values[labels == _UNNAMED]).tolist())
                found |= bool(inside.any())
                if not unnamed:
                    yield rows, labels
            if unnamed:
                raise refuse_values(path, unnamed)
            if not found:
                raise AssetRefused(f"{path}: lies nowhere on the mask's grid, {_describe_extent(grid)}")


def _read_rows(
    path: Path, grid: Grid, rows: slice
) -> tuple[NDArray[np.generic], NDArray[np.bool_], float | None]:
    """Return a file's values on rows of the grid, where it has any, and its declared no-data value."""

    def read() -> tuple[NDArray[np.generic], NDArray[np.bool_], float | None]:
        with rasterio.open(path, driver="GTiff") as dataset:
            check_raster(dataset)
            if not dataset.crs:
                raise Unsuitable("has no CRS")
            height, width = grid.shape
            # Its own no-data value may be a class: only alpha says where the file has pixels.
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
    """Return the labels of integer ``values``; ``_UNNAMED`` if ``classes`` has none.

    A value that the file declares as no data is unknown, unless ``classes`` names it.
    """
    limits = np.iinfo(values.dtype.type)  # type: ignore[type-var]
    table = np.full(limits.max - limits.min + 1, _UNNAMED, np.uint8)
    named = {str(no_data): Label.UNKNOWN, **classes}
    for text, label in named.items():
        value = _parse_integer(text)
        if value is not None and limits.min <= value <= limits.max:
            table[value - limits.min] = label
    return table[values.astype(np.int32) - limits.min]


def _parse_integer(text: str) -> int | None:
    """Return the integer that ``text`` is, even if written 2.0; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _describe_extent(grid: Grid) -> str:
    west, south, east, north = grid.bounds
    return f"{grid.crs} {west:.0f} to {east:.0f}, {south:.0f} to {north:.0f}"


@dataclass(frozen=True, slots=True)
class PointReference(Reference):
    """Labelled points: ``x``, ``y`` float64, ``labels`` uint8, ``crs`` of each; several may lie in one pixel."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    labels: NDArray[np.uint8]
    crs: NDArray[np.str_]

    def locate(
        self, grid: Grid
    ) -> Iterator[tuple[tuple[NDArray[np.intp], NDArray[np.intp]], NDArray[np.uint8]]]:
        """Yield the points of each CRS that lie on the grid: each belongs to the pixel that contains it."""
        a, _, west, _, e, north = grid.transform
        found = False
        for crs in np.unique(self.crs):
            chosen = self.crs == crs
            x, y = self.x[chosen], self.y[chosen]
            if CRS.from_user_input(str(crs)) != CRS.from_user_input(grid.crs):
                x, y = map(np.asarray, transform_points(str(crs), grid.crs, x.tolist(), y.tolist()))
            columns, rows = np.floor((x - west) / a), np.floor((y - north) / e)
            inside = (columns >= 0) & (columns < grid.shape[1]) & (rows >= 0) & (rows < grid.shape[0])
            found |= bool(inside.any())
            yield (rows[inside].astype(np.intp), columns[inside].astype(np.intp)), self.labels[chosen][inside]
        if not found:
            raise AssetRefused(f"{self.name}: no point lies on the mask's grid, {_describe_extent(grid)}")


@dataclass(frozen=True, slots=True)
class LabelRasters:
    """A file of labels, or a folder of them whose names say which scenes they belong to."""

    path: Path
    layout: LabelLayout

    def match(self, ids: Sequence[str], only: bool) -> dict[str, Reference]:
        """Return the files of each scene of ``ids`` that has any.

        With ``only``, ``ids`` is the one scene that was requested: labels that do not name their scene belong to it.

        Raises:
            SettingsError: no scene has any.
        """
        if self.path.is_file():
            paths = {self.path.name: self.path}
        else:
            found = sorted(path for path in self.path.glob(self.layout.rasters.files) if path.is_file())
            paths = {path.relative_to(self.path).as_posix(): path for path in found}
        if not paths:
            raise SettingsError(f"--labels {self.path}: no file there is {self.layout.rasters.files}")
        fallback = ids[0] if only and self.path.is_file() else None
        names = _assign(list(paths), ids, self.path, self.layout, fallback)
        return {
            item_id: RasterReference([paths[name] for name in some], self.layout.classes)
            for item_id, some in names.items()
        }


def _assign(
    names: Sequence[str], ids: Sequence[str], path: Path, layout: LabelLayout, fallback: str | None = None
) -> dict[str, list[str]]:
    """Return the labels' names of each scene of ``ids`` that has any; ``fallback`` is the scene of all others.

    Raises:
        SettingsError: none has.
    """
    scenes, found = SceneNames(ids), dict[str, list[str]]()
    for name in names:
        if (item_id := scenes.find(layout.items.get(name, name)) or fallback) is not None:
            found.setdefault(item_id, []).append(name)
    if found:
        return found
    if not ids:
        raise SettingsError(f"--labels {path}: there is no scene to compare with")
    example = names[0].rpartition("/")[2] if names else "an empty table"
    raise SettingsError(
        f"--labels {path}: {example} and its like name none of {len(ids)} scenes, such as {ids[0]}; name labels "
        "after items, or say in [items] of --classes which is whose"
    )


@dataclass(frozen=True, slots=True)
class LabelPoints:
    """A CSV of labelled points; ``items`` names the scene of each, and is None if no column does."""

    path: Path
    layout: LabelLayout
    points: PointReference
    items: NDArray[np.str_] | None

    def match(self, ids: Sequence[str], only: bool) -> dict[str, Reference]:
        """Return the points of each scene of ``ids`` that has any; see ``LabelRasters.match``."""
        items, points = self.items, self.points
        if items is None:
            if not only:
                raise SettingsError(
                    f"--labels {self.path}: no column says to which item a point belongs: add one called item, "
                    "or name one ITEM"
                )
            return {ids[0]: points}

        def choose(names: list[str]) -> PointReference:
            chosen = np.isin(items, names)
            return replace(
                points, **{name: getattr(points, name)[chosen] for name in ("x", "y", "labels", "crs")}
            )

        names = _assign(np.unique(items).tolist(), ids, self.path, self.layout)
        return {item_id: choose(some) for item_id, some in names.items()}


def open_labels(path: Path, classes: str | None, crs: str | None = None) -> LabelRasters | LabelPoints:
    """Open the labels at ``path``: a CSV of points, a GeoTIFF, or a folder of GeoTIFFs.

    ``classes`` is a layout's name or file, ``crs`` that of points which do not state it themselves.

    Raises:
        SettingsError: nothing is there, or nothing that can be read.
    """
    if classes is None:
        raise SettingsError(
            "--labels needs --classes: a TOML file that says what label values mean, or a layout"
        )
    layout = read_layout(classes)
    if not path.exists():
        raise SettingsError(f"--labels {path}: is not there")
    if path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        return read_points(path, layout, crs)
    return LabelRasters(path, layout)


#: Names of columns that need not be configured, by their field.
_USUAL_NAMES = {
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "label": ("class", "label"),
    "shadow": (),
    "item": ("item", "scene", "id", "item_id"),
    "crs": ("crs", "epsg"),
}
_NEEDED = ("x", "y", "label")


def read_points(path: Path, layout: LabelLayout, crs: str | None = None) -> LabelPoints:
    """Read a CSV of points, separated by commas, semicolons or tabs.

    ``crs`` is that of points which do not state it themselves, by default longitude and latitude.

    Raises:
        SettingsError: it cannot be read, a column is missing, or a cell is invalid.
    """
    try:
        lines = decode_text(path.read_bytes()).splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(f"--labels {path}: cannot be read: {error}") from error
    rows = csv.DictReader(lines, delimiter=max(",;\t", key="".join(lines[:1]).count))
    rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    return _Table(path, layout, _find_columns(path, rows.fieldnames, layout.points), crs).read(rows)


def _find_columns(path: Path, header: Sequence[str], columns: PointColumns) -> dict[str, str]:
    """Return the column name of each field that the header has.

    Raises:
        SettingsError: a named or required column is missing.
    """
    found: dict[str, str] = {}
    folded = {name.casefold(): name for name in header}
    for field, usual in _USUAL_NAMES.items():
        told = getattr(columns, field)
        name = next((folded[each] for each in usual if each in folded), None) if told is None else told
        if name is not None:
            found[field] = name
        if (field in _NEEDED and name is None) or (told is not None and told not in header):
            wanted = told or " or ".join(usual)
            raise SettingsError(
                f"--labels {path}: no column {wanted}, only {', '.join(header) or 'none'}: name it in [points] "
                "of --classes"
            )
    return found


@dataclass(frozen=True, slots=True)
class _Table:
    """Reads the rows of a CSV whose columns are known."""

    path: Path
    layout: LabelLayout
    names: dict[str, str]
    crs: str | None

    def read(self, rows: csv.DictReader[str]) -> LabelPoints:
        x, y, labels, crs, items = [], [], [], [], []
        unnamed: dict[str, set[str]] = {"classes": set(), "shadow-classes": set()}
        for row in rows:
            where = f"{self.path}, line {rows.line_num}"
            x.append(self._parse_number(row, "x", where))
            y.append(self._parse_number(row, "y", where))
            labels.append(self._find_label(row, unnamed))
            crs.append(self._find_crs(row, x[-1], y[-1], where))
            items.append(self._read_cell(row, "item"))
        for table, values in unnamed.items():
            if values:
                raise refuse_values(self.path, values, table)
        for each in set(crs):
            _check_crs(each, self.path)
        columns: Any = (
            np.array(x, float),
            np.array(y, float),
            np.array(labels, np.uint8),
            np.array(crs, str),
        )
        points = PointReference(str(self.path), *columns)
        named = np.array(items, str) if "item" in self.names else None
        return LabelPoints(self.path, self.layout, points, named)

    def _read_cell(self, row: dict[str, str], field: str) -> str:
        """Return the text of a cell; empty if there is no such column, or the row ends before it."""
        return (row.get(self.names.get(field, "")) or "").strip()

    def _parse_number(self, row: dict[str, str], field: str, where: str) -> float:
        text = row.get(self.names[field]) or ""
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise SettingsError(f"--labels {where}: {self.names[field]} {text!r:.40} is no number")
        return number

    def _find_label(self, row: dict[str, str], unnamed: dict[str, set[str]]) -> Label:
        label = _look_up(self.layout.classes, self._read_cell(row, "label"), unnamed["classes"])
        if "shadow" not in self.names:
            return label
        shadow = _look_up(
            self.layout.shadow_classes, self._read_cell(row, "shadow"), unnamed["shadow-classes"]
        )
        if Label.UNKNOWN in (label, shadow):
            return Label.UNKNOWN
        if shadow == Label.CLEAR:
            return label
        return shadow if label == Label.CLEAR else Label.CLOUD_AND_SHADOW if label == Label.CLOUD else label

    def _find_crs(self, row: dict[str, str], x: float, y: float, where: str) -> str:
        told = self._read_cell(row, "crs")
        crs = (f"EPSG:{told}" if told.isdecimal() else told) or self.crs
        if crs is None and (abs(x) > 360 or abs(y) > 90):
            raise SettingsError(
                f"--labels {where}: {x:g}, {y:g} is no longitude and latitude: give --crs EPSG:n"
            )
        return crs or _LONGITUDE_LATITUDE


def _look_up(classes: ClassMap, value: str, unnamed: set[str]) -> Label:
    """Return the label of a cell; add it to ``unnamed`` if ``classes`` does not name it."""
    number = _parse_integer(value)
    label = classes.get(value, None if number is None else classes.get(str(number)))
    if label is None:
        unnamed.add(value or "an empty cell")
        return Label.UNKNOWN
    return label


def _check_crs(text: str, path: Path) -> None:
    try:
        CRS.from_user_input(text)
    except (RasterioError, ValueError) as error:
        raise SettingsError(f"--labels {path}: {text!r:.40} is no CRS such as EPSG:32722") from error
