"""Labelled points, as a CSV lists them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from pc_cloudmask.errors import AssetRefused, SettingsError
from pc_cloudmask.evaluate.confusion import Confusion, Label, count_confusion, sum_confusions
from pc_cloudmask.evaluate.labels import Reference, describe_extent, parse_integer, refuse_names
from pc_cloudmask.evaluate.layout import ClassMap, LabelLayout, PointColumns, SceneNames, refuse_values
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.text import decode_text

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
        """Compare each point with the pixel that it lies in; see ``Reference``."""
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
    """A CSV of labelled points; ``items`` says of each whose it is, and is None where no column does."""

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


#: Names of columns that need not be told, by the field that they are.
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
    """Read a CSV of points, its cells divided by commas, semicolons or tabs.

    ``crs`` is that of points which do not tell it themselves, by default longitude and latitude.

    Raises:
        SettingsError: it cannot be read, a column is missing, or a cell says nothing.
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
    """Return the name of each field's column that the header has.

    Raises:
        SettingsError: a column that is named, or needed, is missing.
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
    """Return the label of a cell; add one that ``classes`` does not name to ``unnamed``."""
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
