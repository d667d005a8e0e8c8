from __future__ import annotations

import sys

import numpy as np
import pytest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.viewing.observations import CalendarRow, blend_share, draw_calendar
from tests.raster.test_png import decode


def draw(*rows: CalendarRow, title: str = "Scenes") -> np.ndarray:
    return decode(draw_calendar(title, rows))[..., :3]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 5])
def test_a_calendar_has_a_line_for_each_year(rows: int) -> None:
    one = CalendarRow("22KFV 2018", {})
    picture, taller = draw(*[one] * rows), draw(*[one] * (rows + 10))
    assert picture.shape[1] == taller.shape[1]
    assert taller.shape[0] - picture.shape[0] == pytest.approx(10 * 0.32 * 120, abs=1)
    assert draw().shape == draw(one).shape, "nothing found is an empty line"


def test_a_month_has_the_colour_of_its_share() -> None:
    picture = draw(CalendarRow("22KFV 2018", {1: (0, 4), 6: (2, 4), 12: (4, 4)}))
    columns = [
        np.flatnonzero((picture == blend_share(share)).all(axis=-1).any(axis=0)) for share in (0, 0.5, 1)
    ]
    assert all(len(found) > 40 for found in columns)
    assert columns[0].max() < columns[1].min() < columns[1].max() < columns[2].min()


def test_the_same_counts_give_the_same_bytes() -> None:
    rows = [CalendarRow("22KFV 2018", {1: (0, 4)})]
    assert draw_calendar("Scenes", rows) == draw_calendar("Scenes", rows)


def test_more_lines_than_a_picture_has_are_refused() -> None:
    with pytest.raises(SettingsError, match="2000 lines"):
        draw(*[CalendarRow("22KFV 2018", {})] * 2000)


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SettingsError, match=r"needs matplotlib: .*its extra charts"):
        draw()
