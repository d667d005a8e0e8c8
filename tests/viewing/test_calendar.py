from __future__ import annotations

import numpy as np
import pytest

from pc_cloudmask.viewing.observations import CalendarRow, blend_share, draw_calendar, draw_text, measure_text

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/%.,"


def ink(text: str, scale: int = 1) -> np.ndarray:
    """Where ``text`` is black, (height, width)."""
    picture = np.full((5 * scale, measure_text(text, scale), 3), 255, np.uint8)
    draw_text(picture, text, (0, 0), scale, (0, 0, 0))
    return (picture == 0).all(axis=-1)


def test_every_letter_differs_from_every_other() -> None:
    shapes = {ink(letter).tobytes() for letter in ALPHABET}
    assert len(shapes) == len(ALPHABET)
    assert all(ink(letter).any() for letter in ALPHABET)


def test_letters_stand_apart_and_small_ones_are_capitals() -> None:
    assert not ink("HHH")[:, [3, 7]].any()
    assert np.array_equal(ink("22kfv"), ink("22KFV"))
    assert not ink(" é").any()
    assert np.array_equal(ink("7", scale=3)[::3, ::3], ink("7"))


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_a_calendar_has_a_row_for_each_year(rows: int) -> None:
    empty = draw_calendar("", [])
    picture = draw_calendar("", [CalendarRow("22KFV 2018", {})] * rows)
    assert picture.shape[1:] == empty.shape[1:]
    assert picture.shape[0] - empty.shape[0] == 36 * rows


def test_a_month_has_the_colour_of_its_share() -> None:
    picture = draw_calendar("", [CalendarRow("22KFV 2018", {1: (0, 4), 6: (2, 4), 12: (4, 4)})])
    seen = {tuple(colour) for colour in picture.reshape(-1, 3)}
    assert {blend_share(0), blend_share(0.5), blend_share(1)} <= seen
    row = picture[-13 - 4]
    columns = {
        month: np.flatnonzero((row == blend_share(share)).all(axis=-1)) for month, share in ((1, 0), (12, 1))
    }
    assert columns[12].min() - columns[1].min() == 11 * 60


def test_a_long_title_widens_the_picture() -> None:
    assert draw_calendar("x" * 400, []).shape[1] > draw_calendar("x", []).shape[1]
