"""How masks and grids differ: arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.scene.grid import Grid, Window

#: Side of the window that is asked for alone.
WINDOW_PX = 512


@dataclass(frozen=True, slots=True)
class Difference:
    """How many of ``compared`` pixels differ, and the first of them: row, column, value here and there."""

    compared: int
    different: int = 0
    first: tuple[int, int, int, int] | None = None

    @property
    def is_none(self) -> bool:
        """True if something was compared, and all of it is equal."""
        return self.compared > 0 and self.different == 0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = ("row", "column", "value", "other")
        first = None if self.first is None else dict(zip(names, self.first, strict=True))
        return {"compared": self.compared, "different": self.different, "first": first}

    def __str__(self) -> str:
        if not self.compared:
            return "no pixel has data, so none could be compared"
        if self.first is None:
            return f"equal on all of {self.compared} pixels"
        row, column, value, other = self.first
        return (
            f"{self.different} of {self.compared} pixels differ, the first at row {row}, column {column}: "
            f"{value} and {other}"
        )


def compare_pixels(
    one: NDArray[Any], other: NDArray[Any], valid: NDArray[np.bool_] | None = None
) -> Difference:
    """Compare rasters of one shape, ``(height, width)``, where ``valid`` holds, or everywhere."""
    differs = one != other
    if valid is not None:
        differs &= valid
    compared = int(one.size if valid is None else np.count_nonzero(valid))
    count = int(np.count_nonzero(differs))
    if not count:
        return Difference(compared)
    row, column = divmod(int(np.argmax(differs)), differs.shape[1])
    return Difference(compared, count, (row, column, int(one[row, column]), int(other[row, column])))


def describe_grid(grid: Grid) -> str:
    """Return a grid as rasterio's users read it."""
    height, width = grid.shape
    return f"{height} x {width} pixels, transform {', '.join(f'{each:.10g}' for each in grid.transform)}, {grid.crs}"


def choose_window(classes: NDArray[np.uint8]) -> Window:
    """Return the window of ``classes``, ``(height, width)``, that crosses most edges between classes.

    It begins on odd pixels, away from the seams of the windows that a full raster is downloaded in.
    """
    height, width = classes.shape
    side = min(WINDOW_PX, max(1, min(height, width) // 2))
    windows = [
        Window(row, column, min(side, height - row), min(side, width - column))
        for row in range(min(side // 5 | 1, height - 1), height, side)
        for column in range(min(side // 5 | 1, width - 1), width, side)
    ]
    return max(windows, key=lambda window: _count_edges(classes[window.slices]))


def _count_edges(classes: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(classes[:, 1:] != classes[:, :-1]))
