"""Where MGRS tiles may have pixels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pc_cloudmask.scene.geometry import BBox, boxes_meet, build_tile_box, build_zone_box

# Footprints of tiles as their products give them (west, south, east, north), to a hundredth of a degree.
REAL_TILES: dict[str, BBox] = {
    "22KFV": (-50.03, -23.59, -48.95, -22.59),
    "33UUP": (12.27, 47.73, 13.79, 48.75),
    "34HCH": (18.88, -34.42, 20.10, -33.42),
    "06VVN": (-148.83, 60.29, -146.85, 61.29),
    "32VNM": (8.99, 59.4, 10.97, 60.43),
}


ROWS = "ABCDEFGHJKLMNPQRSTUV"


def holds(outer: BBox, inner: BBox) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


@pytest.mark.parametrize(("tile", "footprint"), REAL_TILES.items())
def test_a_tile_and_its_band_lie_where_their_pixels_are(tile: str, footprint: BBox) -> None:
    box = build_tile_box(tile)
    slack = 0.06
    assert holds((box[0] - slack, box[1] - slack, box[2] + slack, box[3] + slack), footprint)
    assert box[3] - box[1] < 1.2, "a tile is 1 degree high"
    assert holds(build_zone_box(tile[:3]), box)


@pytest.mark.slow
@given(st.integers(1, 60), st.sampled_from("CDEFGHJKLMNPQRSTUVWX"), st.integers(0, 7), st.sampled_from(ROWS))
def test_a_band_holds_every_tile_that_reaches_into_it(zone: int, band: str, column: int, row: str) -> None:
    first = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")[zone % 3]
    box = build_tile_box(f"{zone:02d}{band}{first[column]}{row}")
    # Zones are three degrees wider off Norway and about Svalbard.
    wider = 3 if band in "VX" else 0
    west, south = 6 * zone - 186, -80 + 8 * "CDEFGHJKLMNPQRSTUVWX".index(band)
    north = 84 if band == "X" else south + 8
    assume(box[0] < west + 6 + wider and west - wider < box[2] and box[1] < north and south < box[3])
    assert holds(build_zone_box(f"{zone:02d}{band}"), box)


@pytest.mark.shared
def test_real_items_lie_within_their_tiles(shared_data: Path) -> None:
    seen = 0
    for path in sorted((shared_data / "pc-items").rglob("*.json")):
        document = json.loads(path.read_bytes())
        for item in document.get("features", [document]):
            tile = item.get("properties", {}).get("s2:mgrs_tile")
            if tile and item["bbox"][0] < item["bbox"][2]:
                seen += 1
                assert boxes_meet(build_tile_box(tile), tuple(item["bbox"]))
                west, south, east, north = build_tile_box(tile)
                wide = (west - 0.02, south - 0.02, east + 0.02, north + 0.02)
                assert holds(wide, tuple(item["bbox"])), tile
    assert seen


def test_tiles_at_the_antimeridian_are_met_from_both_sides() -> None:
    east_edge, west_edge = build_tile_box("60KXF"), build_tile_box("01KAB")
    for box in ((179.0, -20.0, -179.0, -16.0), (179.5, -19.0, 180.0, -17.0)):
        assert boxes_meet(build_zone_box("60K"), box)
        assert boxes_meet(build_zone_box("01K"), box)
    assert boxes_meet(east_edge, (177.0, -23.0, -179.0, -16.0))
    assert boxes_meet(west_edge, (177.0, -23.0, -176.0, -16.0))
    assert not boxes_meet(build_tile_box("22KFV"), (179.0, -24.0, -179.0, -22.0))


def test_tiles_on_both_sides_of_the_equator_meet_there() -> None:
    # The upper edge of a tile is that of its square; it is 109.8 km high.
    for tile, south, north in (("31NBA", -0.1, 0.9), ("31MBV", -1.0, 0.0)):
        box = build_tile_box(tile)
        assert (box[1], box[3]) == pytest.approx((south, north), abs=0.03)


longitudes = st.integers(-180, 180) | st.sampled_from([-180, -179, -178, -1, 0, 1, 178, 179, 180])


@pytest.mark.slow
@given(longitudes, longitudes, longitudes, longitudes)
def test_boxes_meet_where_a_meridian_is_in_both(a: int, b: int, c: int, d: int) -> None:
    def meridians(west: int, east: int) -> set[int]:
        return {lon % 360 for lon in range(west, (east if west <= east else east + 360) + 1)}

    expected = bool(meridians(a, b) & meridians(c, d))
    assert boxes_meet((a, -1, b, 1), (c, 0, d, 2)) == expected
    assert boxes_meet((a, -1, b, 1), (c, 1, d, 2)) == expected
    assert boxes_meet((a, 1, b, 2), (c, -1, d, 1)) == expected
    assert not boxes_meet((a, -1, b, 1), (c, 2, d, 3))
