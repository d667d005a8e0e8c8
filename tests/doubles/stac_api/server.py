"""The STAC API itself: landing page, collections, item search with paging, and faults on demand."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.doubles.stac_api.loopback import LoopbackServer, QuietHandler

CONFORMANCE = {
    "core": "https://api.stacspec.org/v1.0.0/core",
    "collections": "https://api.stacspec.org/v1.0.0/collections",
    "features": "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "search": "https://api.stacspec.org/v1.0.0/item-search",
    "sort": "https://api.stacspec.org/v1.0.0/item-search#sort",
    "query": "https://api.stacspec.org/v1.0.0/item-search#query",
}
JSON, GEOJSON = "application/json", "application/geo+json"
DEFAULT_PAGE_ITEMS = 10
Json = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What the next request to ``/search`` gets in place of its page; ``page`` is merged into a true one."""

    status: int = 200
    body: bytes = b"{}"
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    page: Json | None = None


class _Handler(QuietHandler):
    app: StacApiServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self._route(parts.path.rstrip("/"), _read_get_query(parts.query))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._route(urlsplit(self.path).path.rstrip("/"), json.loads(body or b"{}"))

    def _route(self, path: str, query: Json) -> None:
        self.app.requests.append((self.command, path, query))
        collection = f"/collections/{self.app.collection}"
        if path == "":
            self._json(self.app.landing_page())
        elif path == collection:
            self._json(self.app.collection_document())
        elif path == "/search":
            self._search(query)
        else:
            self._json({"code": "NotFoundError", "description": path}, status=404)

    def _search(self, query: Json) -> None:
        fault = self.app.faults.popleft() if self.app.faults else None
        if fault is None:
            self._json(self.app.search(query, self.command), media_type=GEOJSON)
            return
        time.sleep(fault.delay_s)
        if fault.page is not None:
            page = {**self.app.search(query, self.command), **fault.page}
            self._json(page, media_type=GEOJSON)
        else:
            self.answer(fault.status, fault.body, fault.media_type, fault.headers)

    def _json(self, document: Json, *, status: int = 200, media_type: str = JSON) -> None:
        self.answer(status, json.dumps(document).encode(), media_type)


class StacApiServer(LoopbackServer):
    """Serves ``items`` as one collection, newest first unless asked otherwise.

    ``faults`` are used up by searches in turn; ``requests`` holds ``(method, path, query)`` of all.
    """

    handler = _Handler

    def __init__(
        self,
        items: Iterable[Json] = (),
        collection: str = "sentinel-2-l2a",
        *,
        without: Iterable[str] = (),
        methods: tuple[str, ...] = ("GET", "POST"),
    ) -> None:
        super().__init__()
        self.items = list(items)
        self.collection = collection
        self.conforms_to = [uri for name, uri in CONFORMANCE.items() if name not in set(without)]
        self.methods = methods
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, str, Json]] = []

    @property
    def searches(self) -> list[Json]:
        """The queries of the searches so far."""
        return [query for _, path, query in self.requests if path == "/search"]

    def landing_page(self) -> Json:
        search = [
            {"rel": "search", "href": f"{self.url}/search", "type": GEOJSON, "method": method}
            for method in self.methods
        ]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "test-api",
            "description": "A STAC API for tests",
            "conformsTo": self.conforms_to,
            "links": [
                {"rel": "self", "href": self.url, "type": JSON},
                {"rel": "root", "href": self.url, "type": JSON},
                {"rel": "data", "href": f"{self.url}/collections", "type": JSON},
                *search,
            ],
        }

    def collection_document(self) -> Json:
        return {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": self.collection,
            "description": "Sentinel-2",
            "license": "proprietary",
            "extent": {
                "spatial": {"bbox": [[-180, -90, 180, 90]]},
                "temporal": {"interval": [["2015-06-27T00:00:00Z", None]]},
            },
            "links": [],
        }

    def search(self, query: Json, method: str) -> Json:
        """One page, with a link to the next as the Planetary Computer gives it."""
        matching = [item for item in self.items if _matches(item, query)]
        matching.sort(key=lambda item: item["properties"]["datetime"], reverse=True)
        for rule in reversed(query.get("sortby") or []):
            name = rule["field"].removeprefix("properties.")
            matching.sort(key=lambda item: _value(item, name), reverse=rule["direction"] == "desc")
        start, size = int(query.get("token") or 0), int(query.get("limit") or DEFAULT_PAGE_ITEMS)
        links = []
        if start + size < len(matching):
            following = {**query, "token": str(start + size)}
            if method == "POST":
                links.append(
                    {"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": following}
                )
            else:
                following = urlencode({**query["asked"], "token": start + size})
                links.append({"rel": "next", "href": f"{self.url}/search?{following}"})
        return {"type": "FeatureCollection", "features": matching[start : start + size], "links": links}


def _value(item: Json, name: str) -> Any:
    return item["id"] if name == "id" else item["properties"].get(name)


def _matches(item: Json, query: Json) -> bool:
    properties = item["properties"]
    tests = query.get("query") or {}
    return (
        (not query.get("ids") or item["id"] in query["ids"])
        and (not query.get("collections") or item["collection"] in query["collections"])
        and all(_passes(properties.get(name), test) for name, test in tests.items())
        and _within(properties["datetime"], query.get("datetime"))
        and any(_boxes_meet(item["bbox"], box) for box in _query_boxes(query))
    )


def _passes(value: Any, test: Json) -> bool:
    return ("eq" not in test or value == test["eq"]) and ("in" not in test or value in test["in"])


def _within(moment: str, interval: str | None) -> bool:
    """Texts of the same form, UTC, compare as the instants do; fractions are cut off."""
    if not interval:
        return True
    start, _, end = interval.partition("/")
    end = end or start
    second = moment[:19]
    return (start in {"", ".."} or start[:19] <= second) and (end in {"", ".."} or second <= end[:19])


def _query_boxes(query: Json) -> list[list[float]]:
    if query.get("bbox"):
        return [list(query["bbox"])]
    if not query.get("intersects"):
        return [[-180, -90, 180, 90]]
    geometry = query["intersects"]
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    boxes = []
    for polygon in polygons:
        lons, lats = zip(*polygon[0], strict=True)
        boxes.append([min(lons), min(lats), max(lons), max(lats)])
    return boxes


def _boxes_meet(one: list[float], other: list[float]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _read_get_query(text: str) -> Json:
    """The query of a GET request in the form of a POST's; ``asked`` holds it as it was written."""
    asked = dict(parse_qsl(text))
    read: Json = {**asked, "asked": asked}
    for name in ("ids", "collections"):
        if name in asked:
            read[name] = asked[name].split(",")
    for name in ("intersects", "query"):
        if name in asked:
            read[name] = json.loads(asked[name])
    if "bbox" in asked:
        read["bbox"] = [float(value) for value in asked["bbox"].split(",")]
    if "sortby" in asked:
        read["sortby"] = [
            {"field": name.lstrip("+- "), "direction": "desc" if name.startswith("-") else "asc"}
            for name in asked["sortby"].split(",")
        ]
    return read
