"""When an area was clear, drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pc_cloudmask.viewing.clear import ClearScene
from pc_cloudmask.viewing.library import ListedItem
from pc_cloudmask.viewing.pictures import draw_clear_chart
from tests.raster.test_png import decode

GREEN, PINK = (0x78, 0xBA, 0x80), (255, 64, 160)


def make_scene(day: str, clear: int, cloud: int, nodata: int = 0) -> ClearScene:
    item = ListedItem(f"S2_{day}", "22KFV", f"{day}T13:32:19Z", None, False, *[None] * 4, "", None)  # type: ignore[misc]
    return ClearScene(item, clear + cloud + nodata, clear, cloud, 0)


def count(png: bytes, colour: tuple[int, int, int]) -> int:
    return int((decode(png)[..., :3] == colour).all(axis=-1).sum())


@pytest.mark.slow
def test_each_year_has_a_line_and_each_share_its_area() -> None:
    scenes = [make_scene(f"2018-{month:02}-10", 30, 70) for month in range(1, 13)]
    one = draw_clear_chart("My field", scenes)
    assert count(one, PINK) / count(one, GREEN) == pytest.approx(7 / 3, rel=0.25)
    two = draw_clear_chart("My field", [*scenes, make_scene("2019-05-05", 1, 0)])
    assert decode(two).shape[0] - decode(one).shape[0] == pytest.approx(1.05 * 120, abs=1)
    assert decode(draw_clear_chart("Nothing", [])).shape == decode(one).shape


def test_of_a_day_that_scene_is_drawn_that_tells_more() -> None:
    blind, seeing = make_scene("2018-12-14", 1, 0, 99), make_scene("2018-12-14", 100, 0)
    drawn = [draw_clear_chart("My field", scenes) for scenes in ([blind, seeing], [seeing, blind], [seeing])]
    assert drawn[0] == drawn[1] == drawn[2]


def test_an_svg_has_its_texts_and_the_same_bytes_each_time() -> None:
    scenes = [make_scene("2018-12-14", 30, 70)]
    svg = draw_clear_chart("My field", scenes, ".svg")
    texts = {text for node in ET.fromstring(svg).iter() if (text := (node.text or "").strip())}
    assert {"My field", "Clear", "Cloud shadow", "2018", "Dec"} <= texts
    assert svg == draw_clear_chart("My field", scenes, ".svg")
    assert np.char.find(svg.decode(), "<dc:date>") == -1
