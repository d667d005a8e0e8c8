"""Areas as settings and requests name them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.runs.request import WatchRequest
from pc_cloudmask.settings import FIRST_IMAGE, Area, read_settings

BOX = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
INTERVAL = (datetime(2018, 1, 1, tzinfo=UTC), None)


def write_config(folder: Path, text: str) -> Path:
    path = folder / "cloudmask.toml"
    path.write_text(text)
    return path


def test_a_settings_file_names_areas(tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        """
        [areas.brazil]
        tiles = ["22KFV", "T22KFU", "22KFV"]
        since = 2018-12-01

        [areas.alps]
        bbox = "6,45,12,48"
        """,
    )
    areas = WatchRequest().read_areas(read_settings(config))
    assert areas["brazil"].tiles == ("22KFV", "22KFU")
    assert areas["brazil"].start == datetime(2018, 12, 1, tzinfo=UTC)
    assert areas["alps"].start.date() == FIRST_IMAGE
    query = areas["alps"].read_query(INTERVAL)
    assert query.bbox == (6, 45, 12, 48)
    assert query.datetime == "2018-01-01T00:00:00Z/.."
    assert list(WatchRequest(areas=("alps",)).read_areas(read_settings(config))) == ["alps"]


def test_the_environment_names_areas_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_AREAS", '{"home": {"tiles": ["22KFV"]}}')
    assert read_settings().areas == {"home": Area(tiles=("22KFV",))}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('areas.home = {tiles = ["99ZZZ"]}', "areas.home.tiles"),
        ('areas.home = {bbox = "1,2,3"}', "areas.home.bbox"),
        ('areas.home = {bbox = "1,2,3,4", intersects = "a.json"}', "exclude each other"),
        ("areas.home = {}", "name where to look"),
        ('areas.home = {tiles = ["22KFV"], since = "2018/2019"}', "since"),
        ('areas.home = {tiles = ["22KFV"], since = "soon"}', "since"),
        ('areas.home = {tiles = ["22KFV"], colour = "red"}', "colour"),
        ('areas."../x" = {tiles = ["22KFV"]}', "a name is"),
        ("areas = 3", "areas"),
    ],
)
def test_an_area_that_is_none_is_named(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(write_config(tmp_path, text))
    assert "cloudmask.toml: areas" in str(caught.value)
    assert "--" not in str(caught.value)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_areas_that_are_no_json_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDMASK_AREAS", "{")
    with pytest.raises(SettingsError, match="CLOUDMASK_AREAS"):
        read_settings()


@pytest.mark.parametrize(
    ("request_", "hint"),
    [
        (WatchRequest(), "name what to watch"),
        (WatchRequest(areas=("away",)), "--area 'away'"),
        (WatchRequest(areas=("home",), tiles=("22KFV",)), "exclude"),
        (WatchRequest(tiles=("nowhere",)), "nowhere"),
        (WatchRequest(tiles=("22KFV",), since="soon"), "soon"),
        (WatchRequest(bbox="1,1,0"), "--bbox"),
    ],
)
def test_a_request_for_no_area_is_refused(request_: WatchRequest, hint: str) -> None:
    with pytest.raises(SettingsError, match=hint):
        request_.read_areas(read_settings())


def test_since_goes_with_a_place_of_its_own(tmp_path: Path) -> None:
    config = write_config(tmp_path, 'areas.home = {tiles = ["22KFV"]}')
    with pytest.raises(SettingsError, match="--since"):
        WatchRequest(since="2018").read_areas(read_settings(config))


def test_a_places_name_follows_from_what_it_is(tmp_path: Path) -> None:
    geometry = tmp_path / "area.geojson"
    geometry.write_text(json.dumps(BOX))
    (first,) = WatchRequest(intersects=geometry).read_areas(read_settings())
    (again,) = WatchRequest(intersects=geometry).read_areas(read_settings())
    (since,) = WatchRequest(intersects=geometry, since="2018").read_areas(read_settings())
    geometry.write_text(json.dumps(BOX).replace("1", "2"))
    (moved,) = WatchRequest(intersects=geometry).read_areas(read_settings())
    assert first == again
    assert len({first, since, moved}) == 3


def test_a_geometry_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.json"):
        WatchRequest(intersects=tmp_path / "absent.json").read_areas(read_settings())
