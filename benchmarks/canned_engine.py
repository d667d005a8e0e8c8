"""An Earth Engine in a process of its own that answers late, with pixels made beforehand."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pc_cloudmask.masking.classes import COARSE_PIXEL_M, PROBABILITY_NODATA
from pc_cloudmask.masking.earth_engine.graphs import DARK_BIT
from pc_cloudmask.masking.earth_engine.windows import plan_windows
from pc_cloudmask.scene.grid import Grid
from tests.doubles.earth_engine.downloads import File, write_file
from tests.doubles.earth_engine.faults import Delay
from tests.doubles.earth_engine.grids import Projection, Window
from tests.doubles.earth_engine.requests import Request
from tests.doubles.earth_engine.routes import Routes
from tests.doubles.earth_engine.server import LocalEarthEngine

SAMPLE_S = 0.25
INDEX = re.compile(r"[0-9]{8}T[0-9]{6}_[0-9]{8}T[0-9]{6}_T[0-9A-Z]{5}")
#: Blobs of cloud and of dark ground: their size in pixels.
BLOB_PX = 600
COLLECTIONS = 2


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the service answers: after how long, how many at once, how cloudy, and when it refuses everything.

    Every ``burst_every_s`` it refuses all for ``burst_s``. Pixels on ``grid`` are made before it answers.
    """

    latency_s: float = 3.0
    bears: int = 40
    cloudiness: float = 0.2
    burst_every_s: float = 0.0
    burst_s: float = 2.0
    grid: Grid | None = None


@dataclass(slots=True)
class Log:
    """What the service saw: requests in flight every ``SAMPLE_S`` since the first, and how many there were."""

    in_flight: list[int] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    sent_bytes: int = 0


class CannedRoutes(Routes):
    """Has every image that is asked for, and the same pixels of each."""

    def __init__(self, world: Any, cloudiness: float) -> None:
        super().__init__(world)
        self._cloudiness = cloudiness
        self._making = threading.Lock()
        self.sent_bytes = 0

    def answer(self, request: Request, extra: tuple[int, int] = (0, 0)) -> File:
        """Answer requests for pixels and for images; whatever else as ever."""
        if request.path.endswith("value:compute"):
            indexes = sorted(set(INDEX.findall(json.dumps(request.body))))
            return File(json.dumps({"result": [indexes] * COLLECTIONS}).encode(), "application/json")
        if not request.path.endswith("computePixels"):
            return super().answer(request, extra)
        size, affine = request.body["grid"]["dimensions"], request.body["grid"]["affineTransform"]
        names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
        scale_x, shear_x, x, shear_y, scale_y, y = (float(affine[name]) for name in names)
        transform = (scale_x, shear_x, x, shear_y, scale_y, y)
        projection = Projection(request.body["grid"]["crsCode"], transform)
        window = Window(projection, 0, 0, int(size["width"]), int(size["height"]))
        with self._making:
            file = write_canned(window, request.body["fileFormat"], self._cloudiness)
        self.sent_bytes += len(file.body)
        return file


@lru_cache(maxsize=32)
def write_canned(window: Window, file_format: str, cloudiness: float) -> File:
    """Return a raster of the cloud inputs, written once."""
    inputs = build_inputs(window.shape, cloudiness, is_fine=window.projection.nominal_scale < COARSE_PIXEL_M)
    return write_file({"value": inputs}, window, file_format, "canned")


def build_inputs(
    shape: tuple[int, int], cloudiness: float, *, is_fine: bool, blob_px: int = BLOB_PX
) -> NDArray[np.uint8]:
    """Return packed cloud inputs: clouds over a share of the tile, dark ground, a wedge without data."""
    random = np.random.default_rng(7)
    height, width = shape
    probability = _blobs(random, shape, blob_px)
    # A share of the pixels lies above the threshold; the others are clear sky, of a probability near none.
    threshold = np.quantile(probability, 1 - cloudiness) if cloudiness > 0 else np.inf
    cloudy = probability > threshold
    sky = (4 * _blobs(random, shape, blob_px)).astype(np.uint8)
    cloud = (75 + 25 * _blobs(random, shape, blob_px)).astype(np.uint8)
    packed = np.where(cloudy, cloud, sky).astype(np.uint8)
    if is_fine:
        packed += (DARK_BIT * (_blobs(random, shape, blob_px) > 0.7)).astype(np.uint8)
    for row in range(height):
        packed[row, : (height - row) * width // (8 * height)] = PROBABILITY_NODATA
    return packed


def _blobs(random: np.random.Generator, shape: tuple[int, int], blob_px: int) -> NDArray[np.float32]:
    """Return noise of two sizes in 0..1."""
    blobs = np.zeros(shape, np.float32)
    for size_px, share in ((blob_px, 0.9), (blob_px // 10, 0.1)):
        coarse = random.random((shape[0] // size_px + 2, shape[1] // size_px + 2), np.float32)
        blobs += share * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return blobs


@contextmanager
def running_canned_engine(behaviour: Behaviour) -> Iterator[tuple[str, Any]]:
    """Run the service in another process; yield its URL and a function that ends it and returns its ``Log``."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, behaviour), daemon=True)
    process.start()
    url = ours.recv()

    def stop() -> Log:
        ours.send("stop")
        log: Log = ours.recv()
        return log

    try:
        yield url, stop
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, behaviour: Behaviour) -> None:
    engine = LocalEarthEngine()
    routes = CannedRoutes(engine.world, behaviour.cloudiness)
    engine.routes = routes
    engine.concurrency_limit = behaviour.bears
    engine.faults.add(Delay(behaviour.latency_s), path="compute")
    if behaviour.grid:
        for grid in (behaviour.grid, behaviour.grid.at_pixel_size(COARSE_PIXEL_M)):
            for part in plan_windows(grid):
                window_grid = grid.window_grid(part)
                window = Window(Projection(grid.crs, window_grid.transform), 0, 0, part.width, part.height)
                write_canned(window, "GEO_TIFF", behaviour.cloudiness)
    log = Log()
    stopping = threading.Event()
    with engine:
        threads = [threading.Thread(target=_watch, args=(engine, log, stopping))]
        if behaviour.burst_every_s:
            threads.append(threading.Thread(target=_burst, args=(engine, behaviour, stopping)))
        for thread in threads:
            thread.start()
        pipe.send(engine.url)
        pipe.recv()
        stopping.set()
        for thread in threads:
            thread.join()
        asked = engine.requests.to("compute")
        log.answered = sum(request.status == 200 for request in asked)
        log.refused = sum(request.status == 429 for request in asked)
        log.sent_bytes = routes.sent_bytes
        pipe.send(log)


def _watch(engine: LocalEarthEngine, log: Log, stopping: threading.Event) -> None:
    started = time.monotonic()
    for number in itertools.count(1):
        if log.in_flight or engine.requests.in_flight:
            log.in_flight.append(engine.requests.in_flight)
        if stopping.wait(max(0.0, started + number * SAMPLE_S - time.monotonic())):
            return


def _burst(engine: LocalEarthEngine, behaviour: Behaviour, stopping: threading.Event) -> None:
    while not stopping.wait(behaviour.burst_every_s):
        # With as many under way, whatever comes is over it.
        engine.concurrency_limit = 1
        stopping.wait(behaviour.burst_s)
        engine.concurrency_limit = behaviour.bears
