from __future__ import annotations

import sys

import numpy as np
import pytest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.viewing.library import MonthOfTile
from pc_cloudmask.viewing.pictures import blend_share, draw_calendar
from tests.raster.test_png import decode


def draw(*months: MonthOfTile, title: str = "Scenes") -> np.ndarray:
    return decode(draw_calendar(title, months))[..., :3]


def count(month: int, cloud_free: int, scenes: int, year: int = 2018) -> MonthOfTile:
    return MonthOfTile("22KFV", year, month, scenes, cloud_free, clear_views=0.0)


def count_years(number: int) -> list[MonthOfTile]:
    """Nothing, in so many years."""
    return [count(1, 0, 0, year) for year in range(number)]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 5])
def test_a_calendar_has_a_line_for_each_year(rows: int) -> None:
    picture, taller = draw(*count_years(rows)), draw(*count_years(rows + 10))
    assert picture.shape[1] == taller.shape[1]
    assert taller.shape[0] - picture.shape[0] == pytest.approx(10 * 0.32 * 120, abs=1)
    assert draw().shape == draw(*count_years(1)).shape, "nothing found is an empty line"


def test_a_month_has_the_colour_of_its_share() -> None:
    picture = draw(count(1, 0, 4), count(6, 2, 4), count(12, 4, 4))
    columns = [
        np.flatnonzero((picture == blend_share(share)).all(axis=-1).any(axis=0)) for share in (0, 0.5, 1)
    ]
    assert all(len(found) > 40 for found in columns)
    assert columns[0].max() < columns[1].min() < columns[1].max() < columns[2].min()


def test_the_same_counts_give_the_same_bytes() -> None:
    months = [count(1, 0, 4)]
    assert draw_calendar("Scenes", months) == draw_calendar("Scenes", months)


def test_more_lines_than_a_picture_has_are_refused() -> None:
    with pytest.raises(SettingsError, match="2000 lines"):
        draw(*count_years(2000))


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SettingsError, match=r"needs matplotlib: .*its extra charts"):
        draw()
