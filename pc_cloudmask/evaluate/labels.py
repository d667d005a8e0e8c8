"""Reference labels on a mask's grid: rasters, another mask, or points from a CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

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
from pc_cloudmask.evaluate.confusion import Confusion, Label, count_confusion, sum_confusions
from pc_cloudmask.evaluate.layout import ClassMap, LabelLayout, PointColumns, SceneNames, refuse_values
from pc_cloudmask.raster.gdal import Unreadable, read_asset
from pc_cloudmask.raster.read import Unsuitable, check_raster
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.text import decode_text

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
            SettingsError: it has values whose meaning is not given.
        """
        ...

    def locate(self, grid: Grid) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
        """Yield rows, columns and labels of its contents on ``grid``, for a picture; the arrays broadcast."""
        ...


@dataclass(frozen=True, slots=True)
class MaskReference:
    """Another mask on the same grid, uint8 ``(height, width)`` of ``MaskClass``."""

    classes: NDArray[np.uint8]

    def count(self, classes: NDArray[np.uint8], grid: Grid) -> Confusion:  # noqa: ARG002 - of the protocol
        """Compare the two, block by block; see ``Reference``."""
        blocks = [slice(row, row + BLOCK_ROWS) for row in range(0, len(classes), BLOCK_ROWS)]
        return sum_confusions(count_confusion(self.classes[block], classes[block]) for block in blocks)

    def locate(self, grid: Grid) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
        """Yield the entire mask."""
        rows, columns = np.arange(grid.shape[0]), np.arange(grid.shape[1])
        yield rows[:, np.newaxis], columns[np.newaxis], self.classes


@dataclass(frozen=True, slots=True)
class RasterReference:
    """GeoTIFFs of labels, on any grids; a pixel of the mask takes the label at its centre."""

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
        """Return the file's values on rows of the grid, where it has any, and its declared no-data value."""

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
    if no_data is not None and no_data == math.floor(no_data) and limits.min <= no_data <= limits.max:
        table[int(no_data) - limits.min] = Label.UNKNOWN
    for text, label in classes.items():
        value = parse_integer(text)
        if value is not None and limits.min <= value <= limits.max:
            table[value - limits.min] = label
    return table[values.astype(np.int32) - limits.min]


def parse_integer(text: str) -> int | None:
    """Return the integer that ``text`` is, even if written 2.0; None for any other text."""
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

        With ``only``, ``ids`` is the one scene that was requested: labels that do not name their scene belong to it.

        Raises:
            SettingsError: no scene has any.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabelRasters:
    """A file of labels, or a folder of them whose names say which scenes they belong to."""

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
    """Return the error for labels that name none of the scenes."""
    return SettingsError(
        f"--labels {path}: {example} and its like name none of {len(ids)} scenes, such as {ids[0]}; name labels "
        "after items, or say in [items] of --classes which is whose"
        if ids
        else f"--labels {path}: there is no scene to compare with"
    )


_LONGITUDE_LATITUDE = "EPSG:4326"


@dataclass(frozen=True, slots=True)
class PointReference:
    """Labelled points: ``x``, ``y`` float64, ``labels`` uint8, ``crs`` of each; several may lie in one pixel."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    labels: NDArray[np.uint8]
    crs: NDArray[np.str_]

    def count(self, classes: NDArray[np.uint8], grid: Grid) -> Confusion:
        """Compare each point with the pixel that contains it; see ``Reference``."""
        confusions = [
            count_confusion(labels, classes[rows, columns]) for rows, columns, labels in self.locate(grid)
        ]
        total = sum_confusions(confusions)
        if not total.counts.any():
            raise AssetRefused(
                f"{self.name}: no point lies on the mask's grid, {grid.crs} {describe_extent(grid)}"
            )
        return total

    def locate(self, grid: Grid) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
        """Yield the points that lie on the grid, for each CRS."""
        a, _, west, _, e, north = grid.transform
        for crs in np.unique(self.crs):
            chosen = self.crs == crs
            x, y = self.x[chosen], self.y[chosen]
            if CRS.from_user_input(str(crs)) != CRS.from_user_input(grid.crs):
                x, y = map(np.asarray, transform_points(str(crs), grid.crs, x.tolist(), y.tolist()))
            columns, rows = np.floor((x - west) / a), np.floor((y - north) / e)
            inside = (columns >= 0) & (columns < grid.shape[1]) & (rows >= 0) & (rows < grid.shape[0])
            yield rows[inside].astype(np.intp), columns[inside].astype(np.intp), self.labels[chosen][inside]


@dataclass(frozen=True, slots=True)
class LabelPoints:
    """A CSV of labelled points; ``items`` names the scene of each, and is None if no column does."""

    path: Path
    layout: LabelLayout
    points: PointReference
    items: NDArray[np.str_] | None

    def match(self, ids: Sequence[str], only: bool) -> dict[str, Reference]:
        """Return the points of each scene; see ``LabelSource``."""
        if self.items is None:
            if not only:
                raise SettingsError(
                    f"--labels {self.path}: no column says to which item a point belongs: add one called item, "
                    "or name one ITEM"
                )
            return {ids[0]: self.points}
        names, found = SceneNames(ids), dict[str, list[str]]()
        called = np.unique(self.items)
        for name in called:
            item_id = names.find(self.layout.items.get(str(name), str(name)))
            if item_id is not None:
                found.setdefault(item_id, []).append(str(name))
        if not found:
            raise refuse_names(self.path, str(called[0]) if len(called) else "an empty table", ids)
        return {item_id: self._choose(some) for item_id, some in found.items()}

    def _choose(self, names: list[str]) -> PointReference:
        chosen = np.isin(cast(NDArray[np.str_], self.items), names)
        points = self.points
        return PointReference(
            points.name, points.x[chosen], points.y[chosen], points.labels[chosen], points.crs[chosen]
        )


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
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    rows = csv.DictReader(lines, delimiter=delimiter)
    names = _find_columns(
        path, [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])], layout.points
    )
    rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    return _Table(path, layout, names, crs).read(rows)


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
            items.append((row.get(self.names.get("item", "")) or "").strip())
        for table, values in unnamed.items():
            if values:
                raise refuse_values(self.path, values, table)
        for each in set(crs):
            _check_crs(each, self.path)
        points = PointReference(
            str(self.path),
            np.array(x, float),
            np.array(y, float),
            np.array(labels, np.uint8),
            np.array(crs, str),
        )
        return LabelPoints(
            self.path, self.layout, points, np.array(items, str) if "item" in self.names else None
        )

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
        label = _look_up(self.layout.classes, row.get(self.names["label"]), unnamed["classes"])
        if "shadow" not in self.names:
            return label
        shadow = _look_up(
            self.layout.shadow_classes, row.get(self.names["shadow"]), unnamed["shadow-classes"]
        )
        if Label.UNKNOWN in (label, shadow):
            return Label.UNKNOWN
        if shadow == Label.CLEAR:
            return label
        return shadow if label == Label.CLEAR else Label.CLOUD_AND_SHADOW if label == Label.CLOUD else label

    def _find_crs(self, row: dict[str, str], x: float, y: float, where: str) -> str:
        told = (row.get(self.names.get("crs", "")) or "").strip()
        crs = (f"EPSG:{told}" if told.isdecimal() else told) or self.crs
        if crs is None and (abs(x) > 360 or abs(y) > 90):
            raise SettingsError(
                f"--labels {where}: {x:g}, {y:g} is no longitude and latitude: give --crs EPSG:n"
            )
        return crs or _LONGITUDE_LATITUDE


def _look_up(classes: ClassMap, text: str | None, unnamed: set[str]) -> Label:
    """Return the label of a cell; add it to ``unnamed`` if ``classes`` does not name it."""
    value = (text or "").strip()
    number = parse_integer(value)
    label = classes.get(value, classes.get(str(number)) if number is not None else None)
    if label is None:
        unnamed.add(value or "an empty cell")
        return Label.UNKNOWN
    return label


def _check_crs(text: str, path: Path) -> None:
    try:
        CRS.from_user_input(text)
    except (RasterioError, ValueError) as error:
        raise SettingsError(f"--labels {path}: {text!r:.40} is no CRS such as EPSG:32722") from error
