"""Pairing of scenes with Earth Engine images, without Earth Engine."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.scene.image import (
    EarthEngineImage,
    ImageCandidate,
    ImageKey,
    Waiting,
    pair_images,
    parse_image_index,
    read_image_key,
)
from pc_cloudmask.scene.scene import Scene

L2A, PROBABILITY = "COPERNICUS/S2_SR_HARMONIZED", "COPERNICUS/S2_CLOUD_PROBABILITY"


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


SCENE = Scene(
    id="S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531",
    datetime=datetime(2019, 6, 29, 21, 25, 29, tzinfo=UTC),
    tile="06VVN",
    platform="Sentinel-2B",
    grid=Grid("EPSG:32606", (20.0, 0.0, 399_960.0, 0.0, -20.0, 6_900_000.0), (60, 50)),
    solar_azimuth_deg=170.0,
    solar_zenith_deg=40.0,
    datatake_id="GS2B_20190629T212529_012081_N02.12",
    datastrip_id="S2B_OPER_MSI_L2A_DS_ESRI_20201006T080533_S20190629T212530_N02.12",
    processing_baseline="02.12",
    footprint=box(-150, 61, -148, 62),
    asset_hrefs={},
)
KEY = ImageKey("20190629T212529", "20190629T212530", "06VVN")

times = st.datetimes(datetime(2015, 6, 23), datetime(2099, 12, 31)).map(lambda t: t.strftime("%Y%m%dT%H%M%S"))
tiles = st.from_regex(r"(0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", fullmatch=True)
keys = st.builds(ImageKey, times, times, tiles)


def test_the_key_is_read_from_datatake_datastrip_and_tile() -> None:
    assert read_image_key(SCENE).index == "20190629T212529_20190629T212530_T06VVN"


@pytest.mark.shared
def test_every_real_item_has_a_key_that_its_scene_begins_with(shared_data: Path) -> None:
    for path in sorted((shared_data / "pc-items").glob("S2*.json")):
        properties = json.loads(path.read_text())["properties"]
        scene = replace(
            SCENE,
            tile=properties["s2:mgrs_tile"],
            datatake_id=properties["s2:datatake_id"],
            datastrip_id=properties["s2:datastrip_id"],
        )
        key = read_image_key(scene)
        assert path.name.split("_")[2] == key.datatake_start
        assert parse_image_index(key.index) == key


@given(keys)
def test_an_index_is_read_back_into_its_parts(key: ImageKey) -> None:
    assert parse_image_index(key.index) == key


@pytest.mark.slow
@given(keys, st.sampled_from("ABC"), st.sampled_from(["ESRI", "MSFT", "SGS_", "VGS4", "2BPS"]), times)
def test_ids_of_any_producer_give_the_key_they_were_made_of(
    key: ImageKey, unit: str, producer: str, produced: str
) -> None:
    scene = replace(
        SCENE,
        tile=key.tile,
        datatake_id=f"GS2{unit}_{key.datatake_start}_012081_N05.11",
        datastrip_id=f"S2{unit}_OPER_MSI_L2A_DS_{producer}_{produced}_S{key.sensing_start}_N05.11",
    )
    assert read_image_key(scene) == key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("datatake_id", ""),
        ("datatake_id", "GS2B_2019_012081_N02.12"),
        ("datatake_id", "GS2B_20190629T212529_012081_N02.12/../x"),
        ("datatake_id", "GS2B_20191329T212529_012081_N02.12"),
        ("datatake_id", "GS2B_20190629T212599_012081_N02.12"),
        ("datatake_id", "GS2B_00010101T000000_012081_N02.12"),
        ("datatake_id", "GS2B_٢٠١٩0629T212529_012081_N02.12"),
        ("datastrip_id", "S2B_OPER_MSI_L2A_DS_ESRI_20201006T080533"),
        ("datastrip_id", "20190629T212530"),
        ("datastrip_id", "S2B_OPER_MSI_L2A_DS_ESRI_20201006T080533_S20190600T212530_N02.12"),
    ],
)
def test_an_id_of_another_form_is_named(field: str, value: str) -> None:
    with pytest.raises(InvalidField, match=f"{SCENE.id}: s2:{field} "):
        read_image_key(replace(SCENE, **{field: value}))


@pytest.mark.parametrize("index", ["", "20190629T212529_T06VVN", f"1_{KEY.index}", f"{KEY.index}_1"])
def test_an_index_of_another_form_is_none(index: str) -> None:
    assert parse_image_index(index) is None


def test_an_image_in_every_collection_is_the_granule() -> None:
    present = {L2A: {KEY.index, "x"}, PROBABILITY: {KEY.index}}
    assert pair_images(SCENE, KEY, present) == EarthEngineImage((KEY.index,))


def test_the_collection_that_lacks_the_image_is_named() -> None:
    pairing = pair_images(SCENE, KEY, {L2A: {KEY.index}, PROBABILITY: set()})
    assert isinstance(pairing, Waiting)
    assert pairing.reason == f"{PROBABILITY} has no image {KEY.index} yet"


def test_an_image_in_no_collection_is_left_to_footprints() -> None:
    assert pair_images(SCENE, KEY, {L2A: set(), PROBABILITY: {"x"}}) is None


def test_the_very_image_is_taken_even_where_others_were_asked_for() -> None:
    own = ImageCandidate(KEY, box(-150, 61, -148, 61.1))
    assert pair(own, WHOLE) == EarthEngineImage((KEY.index,))


def candidate(sensing_start: str, footprint: dict[str, Any], **changes: str) -> ImageCandidate:
    return ImageCandidate(replace(KEY, sensing_start=sensing_start, **changes), footprint)


def pair(*candidates: ImageCandidate, without: str = "") -> EarthEngineImage | Waiting:
    indexes = {c.key.index for c in candidates}
    present = {L2A: indexes, PROBABILITY: {i for i in indexes if not without or without not in i}}
    pairing = pair_images(SCENE, KEY, present, candidates)
    assert pairing is not None
    return pairing


WHOLE = candidate("20190629T212531", SCENE.footprint)  # type: ignore[arg-type]
NORTH_HALF = candidate("20190629T212533", box(-150, 61.48, -148, 62))
SOUTH_HALF = candidate("20190629T212547", box(-150, 61, -148, 61.52))


def test_the_image_that_covers_most_is_taken_alone() -> None:
    sliver = candidate("20190629T212520", box(-150, 61.99, -148, 63))
    assert pair(sliver, WHOLE) == EarthEngineImage((WHOLE.key.index,))


def test_the_halves_of_a_split_datatake_are_mosaicked_by_sensing_start() -> None:
    expected = EarthEngineImage((NORTH_HALF.key.index, SOUTH_HALF.key.index))
    assert pair(SOUTH_HALF, NORTH_HALF) == expected
    assert pair(NORTH_HALF, SOUTH_HALF) == expected


def test_one_half_alone_waits_for_the_other() -> None:
    pairing = pair(NORTH_HALF)
    assert isinstance(pairing, Waiting)
    assert "52%" in pairing.reason


def test_a_half_that_another_collection_lacks_is_named() -> None:
    pairing = pair(NORTH_HALF, SOUTH_HALF, without=SOUTH_HALF.key.index)
    assert isinstance(pairing, Waiting)
    assert PROBABILITY in pairing.reason
    assert SOUTH_HALF.key.index in pairing.reason
    assert NORTH_HALF.key.index not in pairing.reason


@pytest.mark.parametrize("changes", [{"tile": "06VVP"}, {"datatake_start": "20190629T212539"}])
def test_an_image_of_another_tile_or_datatake_is_no_candidate(changes: dict[str, str]) -> None:
    pairing = pair(candidate("20190629T212530", SCENE.footprint, **changes))  # type: ignore[arg-type]
    assert isinstance(pairing, Waiting)
    no_image = "have no image of datatake 20190629T212529 for tile 06VVN yet"
    assert pairing.reason == f"{L2A} and {PROBABILITY} {no_image}"


def test_an_empty_footprint_waits_in_place_of_failing() -> None:
    scene = replace(SCENE, footprint={"type": "Polygon", "coordinates": []})
    assert isinstance(pair_images(scene, KEY, {L2A: {WHOLE.key.index}}, [WHOLE]), Waiting)
