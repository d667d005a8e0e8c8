"""Scenes find their images in few requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import shapely

from pc_cloudmask.errors import EngineError, EngineRefused, EngineUnavailable
from pc_cloudmask.masking.earth_engine.images import ImageFinder
from pc_cloudmask.masking.earth_engine.session import EarthEngineSession
from pc_cloudmask.masking.earth_engine.windows import (
    CLOUD_PROBABILITY,
    CLOUD_SCORE_PLUS,
    L2A,
    PAIRING_SPAN,
)
from pc_cloudmask.scene.image import EarthEngineImage, Waiting
from pc_cloudmask.scene.scene import Scene
from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.requests import Request
from tests.doubles.earth_engine.scenes import NORTH, SOUTH, build_scene, split_datatake
from tests.doubles.earth_engine.sentinel2 import Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.sessions import run_session


@pytest.fixture
def session(earth_engine: LocalEarthEngine) -> Iterator[EarthEngineSession]:
    with run_session(earth_engine) as session:
        session.start()
        earth_engine.requests.clear()
        yield session


def build_product(number: int = 0) -> Sentinel2:
    """A small product; each number has a time of its own, two tiles take turns."""
    place = (SOUTH, NORTH)[number % 2]
    taken = build_scene(EMPTY).datetime + timedelta(days=number * 2, seconds=number)
    return replace(
        EMPTY,
        tile=place.tile,
        crs=place.crs,
        origin=place.origin,
        datatake=taken.strftime("%Y%m%dT%H%M%S"),
        datastrip=(taken - timedelta(seconds=4)).strftime("%Y%m%dT%H%M%S"),
    )


EMPTY = Sentinel2(
    SOUTH.tile,
    "20181214T133219",
    "20181214T133215",
    SOUTH.crs,
    SOUTH.origin,
    np.zeros((100, 120), np.uint8),
    {},
    95.0,
)


def find(
    session: EarthEngineSession, *scenes: Scene, collection: str = CLOUD_PROBABILITY
) -> dict[str, object]:
    return dict(ImageFinder(session, collection).find_images(scenes))


def reason(session: EarthEngineSession, scene: Scene, collection: str = CLOUD_PROBABILITY) -> str:
    pairing = find(session, scene, collection=collection)[scene.id]
    assert isinstance(pairing, Waiting), pairing
    return pairing.reason


@pytest.mark.slow
def test_many_scenes_pair_in_few_requests_each_of_a_short_time(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    products = [build_product(number) for number in range(200)]
    for product in products:
        earth_engine.world.add_sentinel2(product)
    scenes = [replace(build_scene(product), id=f"scene-{n}") for n, product in enumerate(products)]
    # In any order, and with images that nobody asks for.
    for number in range(200, 220):
        earth_engine.world.add_sentinel2(build_product(number))
    pairings = find(session, *reversed(scenes))
    assert pairings == {
        f"scene-{n}": EarthEngineImage((product.index,)) for n, product in enumerate(products)
    }
    spans = [find_span(request) for request in earth_engine.requests]
    assert len(spans) == session.statistics.requests == 34  # six scenes in ten days each
    assert max(spans) <= PAIRING_SPAN + timedelta(hours=2)


def find_span(request: Request) -> timedelta:
    """The time between the first and the last instant that a request names."""
    millis = [int(text) for text in re.findall(r"\b\d{13}\b", json.dumps(request.body))]
    return timedelta(milliseconds=max(millis) - min(millis))


@pytest.mark.parametrize("answer", [["a", "b"], [["a"], None], [[1], [2]], [{}, {}], [["a"]], "no list"])
def test_an_answer_of_another_form_says_nothing_of_any_image(
    answer: Any, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    earth_engine.faults.add(faults.Answer({"result": answer}), path="value:compute")
    with pytest.raises(EngineError):
        find(session, build_scene(build_product()))


def test_an_image_that_comes_later_is_found_then(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_product()
    scene = build_scene(product)
    both, wanted = f"{L2A} and {CLOUD_PROBABILITY}", f"datatake {product.datatake} for tile {product.tile}"
    assert reason(session, scene) == f"{both} have no image of {wanted} yet"
    earth_engine.world.add_sentinel2(product)
    assert find(session, scene) == {scene.id: EarthEngineImage((product.index,))}


@pytest.mark.parametrize("missing", [L2A, CLOUD_PROBABILITY])
def test_the_collection_that_lacks_the_image_is_named(
    missing: str, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_product()
    earth_engine.world.add_sentinel2(product, without=[missing])
    assert reason(session, build_scene(product)) == f"{missing} has no image {product.index} yet"


def test_cloud_score_plus_needs_its_own_collection_alone(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_product()
    earth_engine.world.add_sentinel2(product, without=[CLOUD_PROBABILITY])
    scene = build_scene(product)
    assert find(session, scene, collection=CLOUD_SCORE_PLUS) == {scene.id: EarthEngineImage((product.index,))}
    earth_engine.world.remove_asset(f"{CLOUD_SCORE_PLUS}/{product.index}")
    assert CLOUD_SCORE_PLUS in reason(session, scene, collection=CLOUD_SCORE_PLUS)


def test_an_item_of_one_half_is_paired_with_that_half(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    halves = split_datatake(build_product())
    for half in halves:
        earth_engine.world.add_sentinel2(half)
    scenes = [replace(build_scene(half), id=half.index) for half in halves]
    assert find(session, *scenes) == {half.index: EarthEngineImage((half.index,)) for half in halves}
    assert len(earth_engine.requests) == 1


def test_another_datastrip_time_falls_back_to_footprints_in_one_more_request(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    halves = split_datatake(build_product())
    for half in halves:
        earth_engine.world.add_sentinel2(half)
    exact = build_product(1)
    earth_engine.world.add_sentinel2(exact)
    moved = "20181214T133214"
    whole = replace(build_scene(build_product()), datastrip_id=_datastrip(moved), id="whole")
    upper = replace(build_scene(halves[0]), datastrip_id=_datastrip(moved), id="upper")
    assert find(session, whole, upper, replace(build_scene(exact), id="exact")) == {
        "whole": EarthEngineImage(tuple(half.index for half in halves)),
        "upper": EarthEngineImage((halves[0].index,)),
        "exact": EarthEngineImage((exact.index,)),
    }
    assert len(earth_engine.requests) == 2


def test_a_half_whose_probability_is_missing_waits(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    first, second = split_datatake(build_product())
    earth_engine.world.add_sentinel2(first)
    earth_engine.world.add_sentinel2(second, without=[CLOUD_PROBABILITY])
    scene = replace(build_scene(build_product()), datastrip_id=_datastrip("20181214T133214"))
    assert reason(session, scene) == f"{CLOUD_PROBABILITY} has no image {second.index} yet"


def test_a_neighbouring_part_of_the_tile_is_no_match(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    first, second = split_datatake(build_product())
    earth_engine.world.add_sentinel2(second)
    assert "not there yet" in reason(session, build_scene(first))


def test_an_item_with_an_unreadable_id_stops_no_other(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_product()
    earth_engine.world.add_sentinel2(product)
    broken = replace(build_scene(product), id="broken", datastrip_id="?")
    pairings = find(session, broken, build_scene(product))
    assert isinstance(pairings[build_scene(product).id], EarthEngineImage)
    assert "s2:datastrip_id" in str(pairings["broken"])


def test_no_scenes_ask_nothing(earth_engine: LocalEarthEngine) -> None:
    with run_session(earth_engine) as session:
        assert find(session) == {}
    assert len(earth_engine.requests) == 0


def test_a_server_that_fails_says_nothing_of_any_scene(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    earth_engine.faults.add(faults.unavailable(), path="value:compute")
    with pytest.raises(
        EngineUnavailable, match=r"finding the images of 1 scenes: HTTP 503.*after 4 attempts"
    ):
        find(session, build_scene(build_product()))


def test_json_that_is_no_answer_is_asked_for_again(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    product = build_product()
    earth_engine.world.add_sentinel2(product)
    scene = build_scene(product)
    earth_engine.faults.add(faults.ErrorReply(200, "OK", "moved"), path="value:compute", first=1)
    assert find(session, scene) == {scene.id: EarthEngineImage((product.index,))}
    earth_engine.faults.add(faults.ErrorReply(200, "OK", "moved"), path="value:compute")
    with pytest.raises(EngineUnavailable, match="an answer that cannot be read"):
        find(session, scene)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "fault",
    [
        faults.computation_timed_out(),
        faults.ErrorReply(400, "INVALID_ARGUMENT", "Collection query aborted after accumulating over 5000 elements."),
        faults.ErrorReply(400, "INVALID_ARGUMENT", "The aggregation limit was exceeded."),
        faults.ErrorReply(429, "RESOURCE_EXHAUSTED", "Aggregation limit reached."),
    ],
)  # fmt: skip
def test_scenes_that_are_too_many_to_find_at_a_time_go_on_in_halves(
    fault: faults.Fault, times: int, earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    products = [build_product(number) for number in range(6)]
    for product in products[:-1]:
        earth_engine.world.add_sentinel2(product)
    scenes = [replace(build_scene(product), id=product.index) for product in products]
    earth_engine.faults.add(fault, path="value:compute", first=times)
    pairings = find(session, *scenes)
    assert isinstance(pairings.pop(products[-1].index), Waiting)
    assert pairings == {product.index: EarthEngineImage((product.index,)) for product in products[:-1]}
    assert session.statistics.splits == times


@pytest.mark.parametrize(
    ("fault", "error"),
    [(faults.computation_timed_out(), EngineUnavailable), (faults.memory_limit(), EngineRefused)],
)
def test_a_scene_that_is_too_much_by_itself_is_named(
    fault: faults.Fault,
    error: type[Exception],
    earth_engine: LocalEarthEngine,
    session: EarthEngineSession,
) -> None:
    earth_engine.faults.add(fault, path="value:compute")
    scene = build_scene(build_product())
    with pytest.raises(error, match=f"finding the image of {scene.id}: "):
        find(session, scene, replace(scene, id="another"))


def _datastrip(sensing_start: str) -> str:
    return f"S2B_OPER_MSI_L2A_DS_ESRI_20201008T100849_S{sensing_start}_N02.12"


def test_outlines_are_what_overlap_is_measured_by(
    earth_engine: LocalEarthEngine, session: EarthEngineSession
) -> None:
    """Rectangles would give the wrong half: both images span the tile, cut along a diagonal."""
    product = build_product()
    west, north = product.origin
    east, south = west + 1200, north - 1000
    upper = shapely.Polygon([(west, north), (east, north), (west, south)])
    lower = shapely.Polygon([(east, north), (east, south), (west, south)])
    left = replace(product, outline=upper, datastrip="20181214T133216")
    right = replace(product, outline=lower, datastrip="20181214T133230")
    for image in (left, right):
        earth_engine.world.add_sentinel2(image)
    scene = replace(build_scene(right), datastrip_id=_datastrip("20181214T133229"))
    assert find(session, scene) == {scene.id: EarthEngineImage((right.index,))}
