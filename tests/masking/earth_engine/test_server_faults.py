"""Each fault, as the client meets it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import requests

from tests.doubles.earth_engine import faults
from tests.doubles.earth_engine.faults import (
    Delay,
    Fault,
    Hang,
    Html,
    Reset,
    Restricted,
    Truncate,
    WrongShape,
)
from tests.doubles.earth_engine.scenes import SUNS, build_ragged_scene
from tests.doubles.earth_engine.sentinel2 import CLOUD_PROBABILITY, Sentinel2
from tests.doubles.earth_engine.server import LocalEarthEngine
from tests.masking.earth_engine.pixels import build_grid, read_pixels


@pytest.fixture
def product(earth_engine: LocalEarthEngine) -> Sentinel2:
    product = build_ragged_scene(SUNS[1], shape_20m=(80, 120), wedge=False)
    earth_engine.world.add_sentinel2(product)
    return product


@pytest.fixture
def patient(client: Any) -> Any:
    """A client that does not try again on its own."""
    client.data.setMaxRetries(0)
    return client


def read(client: Any, product: Sentinel2, window: tuple[int, int, int, int] | None = None) -> Any:
    image = client.Image(f"{CLOUD_PROBABILITY}/{product.index}")
    return read_pixels(image, build_grid(product, 20, window))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (faults.too_many_requests(), "Too Many Requests"),
        (faults.quota_exceeded(), "Quota exceeded"),
        (faults.unavailable(), "currently unavailable"),
        (faults.internal_error(), "internal error"),
        (faults.memory_limit(), r"User memory limit exceeded\."),
        (faults.computation_timed_out(), r"Computation timed out\."),
        (
            faults.not_registered("q"),
            "Project q is not registered to use Earth Engine. Visit https://console",
        ),
        (faults.missing_role("q"), "Caller does not have required permission to use project q"),
        (faults.api_not_enabled("q"), "has not been used in project q before or it is disabled"),
    ],
    ids=lambda value: value.status if isinstance(value, faults.ErrorReply) else None,
)
def test_errors_arrive_in_googles_form(
    earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2, fault: faults.ErrorReply, text: str
) -> None:
    rule = earth_engine.faults.add(fault, path="image:computePixels")
    with pytest.raises(patient.EEException, match=text):
        read(patient, product)
    assert rule.hits == 1
    (request,) = earth_engine.requests.to("image:computePixels")
    assert (request.status, request.fault) == (fault.code, "ErrorReply")
    response = requests.post(f"{earth_engine.url}{request.path}", json=dict(request.body), timeout=600)
    error = json.loads(response.content)["error"]
    assert (error["code"], error["status"]) == (response.status_code, fault.status)


@pytest.mark.parametrize("fault", [Reset(), Truncate()], ids=lambda fault: type(fault).__name__)
def test_broken_connections_are_connection_errors(
    earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2, fault: Fault
) -> None:
    earth_engine.faults.add(fault, first=1)
    with pytest.raises(ConnectionError):
        read(patient, product)
    assert read(patient, product).shape == (80, 120)


def test_the_client_tries_a_broken_connection_again(
    earth_engine: LocalEarthEngine, client: Any, product: Sentinel2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "random.random", lambda: 0.0
    )  # the client's back-off is a random share of 2**n seconds
    client.data.setMaxRetries(1)
    rule = earth_engine.faults.add(Reset(), first=1, path="computePixels")
    assert read(client, product).shape == (80, 120)
    assert rule.hits == 1
    assert [request.status for request in earth_engine.requests.to("computePixels")] == [0, 200]


def test_a_hanging_server_meets_the_clients_deadline(
    earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2
) -> None:
    patient.data.setDeadline(1000)
    earth_engine.faults.add(Hang(), path="computePixels")
    with pytest.raises(TimeoutError):
        read(patient, product)


def test_html_arrives_as_a_success(earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2) -> None:
    earth_engine.faults.add(Html())
    with pytest.raises(ValueError, match=r"(?i)pickle|load"):
        read(patient, product)
    # The client takes the page for its answer: what it raises is not even an error of its own.
    with pytest.raises(TypeError):
        patient.Number(1).getInfo()


def test_pixels_of_a_wrong_shape(earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2) -> None:
    earth_engine.faults.add(WrongShape(rows=-1, cols=2), first=1)
    assert read(patient, product).shape == (79, 122)
    assert read(patient, product).shape == (80, 120)


def test_an_error_may_say_when_to_come_back(earth_engine: LocalEarthEngine) -> None:
    earth_engine.faults.add(faults.unavailable(retry_after_s=7))
    response = requests.get(f"{earth_engine.url}/$discovery/rest", timeout=600)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")


def test_a_late_answer_is_the_right_one(earth_engine: LocalEarthEngine, patient: Any) -> None:
    rule = earth_engine.faults.add(Delay(0.05))
    assert patient.Number(1).getInfo() == 1
    assert rule.hits == 1


def test_restricted_mode_is_told_beside_the_answer(earth_engine: LocalEarthEngine, patient: Any) -> None:
    earth_engine.faults.add(Restricted())
    with pytest.warns(UserWarning, match="now in restricted mode"):
        assert patient.Number(1).getInfo() == 1


def test_a_memory_limit_by_area(earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2) -> None:
    earth_engine.faults.add(faults.memory_limit(), above_pixels=40 * 60)
    with pytest.raises(patient.EEException, match=r"User memory limit exceeded\."):
        read(patient, product)
    assert read(patient, product, (40, 60, 40, 60)).shape == (40, 60)
    url = patient.Image(f"{CLOUD_PROBABILITY}/{product.index}").getDownloadURL({"format": "NPY"})
    assert requests.get(url, timeout=600).status_code == 400


def test_chance_is_repeatable(earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2) -> None:
    def outcomes() -> list[bool]:
        earth_engine.faults.clear()
        earth_engine.faults.add(faults.unavailable(), probability=0.5, seed=3, path="value:compute")
        succeeded = []
        for _ in range(20):
            try:
                patient.Number(1).getInfo()
            except patient.EEException:
                succeeded.append(False)
            else:
                succeeded.append(True)
        return succeeded

    first = outcomes()
    assert 0 < sum(first) < 20
    assert outcomes() == first


def test_a_request_too_many_at_once_is_refused(
    earth_engine: LocalEarthEngine, patient: Any, product: Sentinel2
) -> None:
    earth_engine.concurrency_limit = 1
    earth_engine.faults.add(Hang(), path="$discovery")
    with hanging_request(earth_engine), pytest.raises(patient.EEException, match="Too Many Requests"):
        read(patient, product)
    assert earth_engine.requests.peak_in_flight == 2


def test_requests_are_computed_at_the_same_time(
    earth_engine: LocalEarthEngine, client: Any, product: Sentinel2
) -> None:
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(lambda _: read(client, product), range(8)))
    assert all(np.array_equal(array, arrays[0]) for array in arrays)


def test_a_server_ends_while_requests_hang() -> None:
    with LocalEarthEngine() as engine:
        engine.faults.add(Hang())
        with hanging_request(engine):
            pass


@contextmanager
def hanging_request(engine: LocalEarthEngine) -> Iterator[None]:
    """A request is under way and hangs; it ends with the server."""
    with ThreadPoolExecutor(1) as pool:
        known = len(engine.requests)
        pending = pool.submit(requests.get, f"{engine.url}/$discovery/rest", timeout=600)
        while len(engine.requests) == known:
            assert not pending.done()
            time.sleep(0.01)
        yield
        engine.stopping.set()
        with pytest.raises(requests.ConnectionError):
            pending.result()
