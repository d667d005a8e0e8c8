"""The REST paths of the client's discovery document."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from tests.doubles.earth_engine.downloads import (
    COMPUTE_PIXELS,
    DOWNLOAD,
    File,
    pick_bands,
    read_arrays,
    requested_window,
    write_file,
)
from tests.doubles.earth_engine.errors import EarthEngineError, NotBuilt
from tests.doubles.earth_engine.functions import FUNCTIONS
from tests.doubles.earth_engine.graph import Graph
from tests.doubles.earth_engine.grids import Window
from tests.doubles.earth_engine.images import Band, Image
from tests.doubles.earth_engine.requests import Request
from tests.doubles.earth_engine.results import image_document, to_document
from tests.doubles.earth_engine.signatures import read_algorithms, read_discovery_document
from tests.doubles.earth_engine.world import World

PUBLIC_ASSETS = "projects/earthengine-public/assets/"
"""What the client puts before the ids of catalogue assets."""

#: A function that the client is told of and that is not built: whoever asks for it is refused loudly.
UNBUILT = "Number.gammainc"


@dataclass(frozen=True, slots=True)
class Download:
    """What ``getDownloadURL`` was promised: the pixels are computed when the URL is read."""

    bands: tuple[Band, ...]
    window: Window
    file_format: str
    name: str

    @property
    def pixels(self) -> int:
        return self.window.width * self.window.height

    def write(self) -> File:
        return write_file(read_arrays(self.bands, self.window), self.window, self.file_format, self.name)


def _json(document: Any) -> File:
    return File(json.dumps(document).encode(), "application/json; charset=UTF-8")


@cache
def _discovery() -> File:
    return _json(read_discovery_document())


@cache
def _algorithms() -> File:
    """Those that are built, and ``UNBUILT``: the client takes longer to learn the others than most tests take."""
    built = {*FUNCTIONS, "Image.load", "ImageCollection.load", UNBUILT}
    known = [each for each in read_algorithms()["algorithms"] if each["name"].split("/")[1] in built]
    return _json({"algorithms": known})


class Routes:
    """Answers requests out of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._downloads: dict[str, Download] = {}

    def count_pixels(self, path: str) -> int | None:
        """Pixels behind a download's URL."""
        download = self._downloads.get(path.rpartition("/")[2].partition(":")[0])
        return download.pixels if download else None

    def answer(self, request: Request, extra: tuple[int, int] = (0, 0)) -> File:
        """The answer; ``extra`` rows and columns make pixels of a wrong shape.

        Raises:
            EarthEngineError: what the service would refuse.
        """
        for method, pattern, route in _ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                return route(self, request, extra, *match.groups())
        raise NotBuilt(f"route {request.method} {request.path}")

    def discovery(self, _request: Request, _extra: Any) -> File:
        return _discovery()

    def deprecated_assets(self, _request: Request, _extra: Any) -> File:
        return _json({"links": []})

    def algorithms(self, _request: Request, _extra: Any) -> File:
        return _algorithms()

    def value(self, request: Request, _extra: Any) -> File:
        return _json({"result": to_document(self._evaluate(request.body))})

    def compute_pixels(self, request: Request, extra: tuple[int, int]) -> File:
        image = self._evaluate_image(request.body)
        return _write_pixels(image, request.body, extra)

    def asset(self, _request: Request, _extra: Any, name: str) -> File:
        return _json(self._asset_document(name))

    def asset_pixels(self, request: Request, extra: tuple[int, int], name: str) -> File:
        return _write_pixels(self._load(name), request.body, extra)

    def list_assets(self, request: Request, _extra: Any, name: str) -> File:
        if "filter" in request.query or "pageSize" in request.query:
            raise NotBuilt("filter or paging in listAssets")
        images = self._world.load_collection(name.removeprefix(PUBLIC_ASSETS)).elements
        return _json({"assets": [_asset(image) for image in images if isinstance(image, Image)]})

    def create_download(self, request: Request, _extra: Any, project: str) -> File:
        body = request.body
        image = self._evaluate_image(body)
        bands = pick_bands(image, body.get("bandIds"))
        window = requested_window(image, body.get("grid"))
        DOWNLOAD.check(bands, window)
        name = body.get("filenamePrefix") or (image.id or "download").rpartition("/")[2]
        with self._lock:
            number = f"{next(self._numbers):032x}-local"
            self._downloads[number] = Download(bands, window, body.get("fileFormat", "PNG"), name)
        return _json({"name": f"{project}/thumbnails/{number}"})

    def read_download(self, _request: Request, extra: tuple[int, int], number: str) -> File:
        if number not in self._downloads:
            raise EarthEngineError(f"Thumbnail '{number}' not found.", 404, "NOT_FOUND")
        download = self._downloads[number]
        return replace(download, window=_grown(download.window, extra)).write()

    def _evaluate(self, body: Mapping[str, Any]) -> Any:
        return Graph(body.get("expression") or {}, self._world).evaluate()

    def _evaluate_image(self, body: Mapping[str, Any]) -> Image:
        image = self._evaluate(body)
        if not isinstance(image, Image):
            raise EarthEngineError(f"Expected an Image, got a {type(image).__name__}.")
        return image

    def _load(self, name: str) -> Image:
        try:
            return self._world.load_image(name.removeprefix(PUBLIC_ASSETS))
        except EarthEngineError as error:
            raise EarthEngineError(
                f"Asset '{name}' not found (does not exist or caller does not have access).", 404, "NOT_FOUND"
            ) from error

    def _asset_document(self, name: str) -> dict[str, Any]:
        asset_id = name.removeprefix(PUBLIC_ASSETS)
        try:
            self._world.load_collection(asset_id)
        except EarthEngineError:
            return _asset(self._load(name))
        return {"type": "IMAGE_COLLECTION", "name": PUBLIC_ASSETS + asset_id, "id": asset_id}


def _grown(window: Window, extra: tuple[int, int]) -> Window:
    return replace(window, height=window.height + extra[0], width=window.width + extra[1])


def _write_pixels(image: Image, body: Mapping[str, Any], extra: tuple[int, int]) -> File:
    bands = pick_bands(image, body.get("bandIds"))
    window = requested_window(image, body.get("grid"))
    COMPUTE_PIXELS.check(bands, window)
    window = _grown(window, extra)
    return write_file(read_arrays(bands, window), window, body.get("fileFormat", "PNG"), "download")


def _asset(image: Image) -> dict[str, Any]:
    """An image as ``assets.get`` has it."""
    start = datetime.fromtimestamp(image.properties["system:time_start"] / 1000, UTC)
    document = image_document(image)
    properties = {
        key: value for key, value in document["properties"].items() if not key.startswith("system:")
    }
    return {
        "type": "IMAGE",
        "name": f"{PUBLIC_ASSETS}{image.id}",
        "id": image.id,
        "startTime": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "properties": properties,
        "bands": [{"id": band.name} for band in image.bands],
    }


_VERSION = r"/v1(?:alpha|beta)?"
_PROJECT = r"projects/[^/]+"
_ROUTES: list[tuple[str, str, Callable[..., File]]] = [
    ("GET", r"/\$discovery/rest", Routes.discovery),
    ("GET", r"/earthengine-stac/catalog/catalog_deprecated.json", Routes.deprecated_assets),
    ("GET", rf"{_VERSION}/{_PROJECT}/algorithms", Routes.algorithms),
    ("POST", rf"{_VERSION}/{_PROJECT}/value:compute", Routes.value),
    ("POST", rf"{_VERSION}/{_PROJECT}/image:computePixels", Routes.compute_pixels),
    ("POST", rf"{_VERSION}/({_PROJECT})/thumbnails", Routes.create_download),
    ("GET", rf"{_VERSION}/{_PROJECT}/thumbnails/([^/:]+):getPixels", Routes.read_download),
    ("POST", rf"{_VERSION}/({_PROJECT}/assets/[^:]+):getPixels", Routes.asset_pixels),
    ("GET", rf"{_VERSION}/({_PROJECT}/assets/[^:]+):listAssets", Routes.list_assets),
    ("GET", rf"{_VERSION}/({_PROJECT}/assets/[^:]+)", Routes.asset),
]
