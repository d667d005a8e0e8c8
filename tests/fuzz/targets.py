"""What is fuzzed: functions of a fuzzer's bytes that must end, with nothing but errors of our own."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import atheris

from pc_cloudmask.catalog.layout import is_state_key, item_keys, pending_key
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.runs.candidate import read_candidate
from pc_cloudmask.scene.geometry import build_box, prepare_area, read_geometry
from pc_cloudmask.scene.query import SceneQuery, build_query
from pc_cloudmask.settings import Settings, read_settings
from pc_cloudmask.source.hrefs import unsign_item
from pc_cloudmask.source.item import hash_item, read_scene
from pc_cloudmask.source.item_files import ItemFilesSource
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from pc_cloudmask.storage.store import check_key
from pc_cloudmask.web import RetryPolicy
from tests.catalog.items import make_source_item
from tests.doubles.stac_api import Fault, StacApiServer, make_item
from tests.fuzz.shapes import MOST_LENGTH, consume_changes, consume_value

Data = Any
"""An ``atheris.FuzzedDataProvider``."""

AREA = {
    "type": "Polygon",
    "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 0]], [[5, 2], [6, 2], [6, 3], [5, 2]]],
}
QUERY = build_query(tiles=["22KFV"], datetime="2018", bbox="-50,-23,-49,-22", ids=["a"])
_SAFE_KEY = re.compile(r"(?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9_./-]*")
_RETRY = RetryPolicy(attempts=1)


def fuzz_item(data: Data) -> None:
    """The item reader; no href that it takes is signed."""
    item = unsign_item(consume_changes(data, make_source_item()))
    scene = read_scene(item)
    hash_item(item)
    for href in scene.asset_hrefs.values():
        query = href.partition("#")[0].partition("?")[2]
        assert "sig" not in {unquote(part.partition("=")[0]) for part in query.split("&")}, href


def fuzz_candidate(data: Data) -> None:
    """An item on its way to being published, by every method."""
    method = data.PickValueInList(["s2cloudless", "csmask", "cloud-score-plus"])
    candidate = read_candidate(consume_changes(data, make_source_item()), {method: MaskParameters()})
    check_key(candidate.keys.item)


def fuzz_keys(data: Data) -> None:
    """Ids, tiles and keys: whatever passes stays in its folder."""
    item_id, tile = data.ConsumeUnicode(MOST_LENGTH), data.ConsumeUnicode(6)
    is_state_key(data.ConsumeUnicode(MOST_LENGTH))
    is_state_key(f"_pending/{item_id}.json")
    pending = pending_key(item_id, "a" * 64)
    keys = item_keys(item_id, data.PickValueInList([tile, "22KFV"]), data.ConsumeIntInRange(0, 9999))
    for key in (pending, keys.item, keys.mask("a" * 64), keys.preview("b" * 64), *keys.year_keys.chain):
        assert _SAFE_KEY.fullmatch(check_key(key)), key
    assert keys.item.startswith(keys.prefix)


def fuzz_settings(data: Data) -> None:
    """A settings file: names and values of our own, or any bytes."""
    if data.ConsumeBool():
        lines = [_consume_setting(data) for _ in range(data.ConsumeIntInRange(1, 4))]
        body = "\n".join(lines).encode("utf-8", "surrogatepass")
    else:
        body = data.ConsumeBytes(400)
    path = _folder() / "cloudmask.toml"
    path.write_bytes(body)
    assert read_settings(path).rungs


def fuzz_query(data: Data) -> None:
    """The options of a search."""

    def consume_text() -> str | None:
        if data.ConsumeBool():
            return None
        telling = ["2018-12", "2018/..", "../2018-02-30", "1,2,3,4", "nan,1,2,3", "T22KFV", "-180,-90,180,90"]
        return (
            data.PickValueInList(telling) + data.ConsumeUnicode(MOST_LENGTH)[data.ConsumeIntInRange(0, 9) :]
        )

    build_query(
        bbox=consume_text(),
        tiles=[text for text in (consume_text(), consume_text()) if text is not None],
        datetime=consume_text(),
        ids=[data.ConsumeUnicode(MOST_LENGTH)],
        limit=data.PickValueInList([None, data.ConsumeInt(9)]),
    )
    build_query(datetime=data.ConsumeUnicode(40))


def fuzz_geometry(data: Data) -> None:
    """The geometry reader; what it takes can be compared with any area."""
    document = consume_changes(data, {"type": "Feature", "geometry": AREA})
    try:
        text = json.dumps(document).encode("utf-8", "surrogatepass")
    except RecursionError:
        return  # nested deeper than Python writes
    if data.ConsumeBool():
        text = text[: data.ConsumeIntInRange(0, len(text))] + data.ConsumeBytes(30)
    try:
        geometry = read_geometry(text)
    except ValueError:
        return
    prepare_area(AREA)(geometry)
    prepare_area(geometry)(build_box(170, -90, -170, 90))


def fuzz_documents(data: Data) -> None:
    """A file that ``--items`` names: an item, a collection of them, a catalog."""
    template = data.PickValueInList([make_item(), _page(), _catalog()])
    path = _folder() / "items.json"
    path.write_bytes(_spell(data, template))
    for query in (SceneQuery(), QUERY):
        assert all(isinstance(item, dict) for item in ItemFilesSource(str(path)).find_items(query))


def fuzz_page(data: Data) -> None:
    """A page of a STAC API, read over HTTP by pystac-client."""
    api = _api()
    api.faults.clear()
    api.faults.append(Fault(body=_spell(data, _page(api.url))))
    source = PlanetaryComputerSource(api.url, "sentinel-2-l2a", 20, retry=_RETRY)
    assert all(isinstance(item, dict) for item in source.find_items(SceneQuery()))


TARGETS: dict[str, Callable[[Data], None]] = {
    function.__name__.removeprefix("fuzz_"): function
    for function in (
        *(fuzz_item, fuzz_candidate, fuzz_keys, fuzz_settings, fuzz_query, fuzz_geometry),
        *(fuzz_documents, fuzz_page),
    )
}


def run_target(name: str, data: bytes) -> None:
    """One execution; what comes out of it is a crash."""
    try:
        TARGETS[name](atheris.FuzzedDataProvider(data))
    except CloudmaskError as error:
        text = str(error)
    else:
        return
    assert text.isprintable(), text


def _consume_setting(data: Data) -> str:
    name = data.PickValueInList(sorted(Settings.model_fields))
    texts = ["dask", "csmask", "s3://", "s3://b/k", "http://h", "anonymous", "nan", "1e999"]
    value = data.PickValueInList([consume_value(data, 2), data.PickValueInList(texts)])
    try:
        return f"{name} = {json.dumps(value)}"
    except RecursionError:
        return f"{name} = {'[' * 2000}"


def _spell(data: Data, template: Any) -> bytes:
    """JSON of a changed ``template``, at times cut or with other bytes in it."""
    try:
        text = json.dumps(consume_changes(data, template)).encode("utf-8", "surrogatepass")
    except RecursionError:
        text = b"[" * 5000
    if data.ConsumeBool():
        return text
    at = data.ConsumeIntInRange(0, len(text))
    return text[:at] + data.ConsumeBytes(16) + text[at + data.ConsumeIntInRange(0, 40) :]


def _page(url: str = "http://127.0.0.1:9") -> dict[str, Any]:
    links = [{"rel": "next", "href": f"{url}/search?token=2", "method": "GET"}]
    return {"type": "FeatureCollection", "features": [make_item("a"), make_item("b")], "links": links}


def _catalog() -> dict[str, Any]:
    links = [{"rel": "child", "href": "./items.json"}, {"rel": "item", "href": "items.json"}]
    return {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "d", "links": links}


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp())


@cache
def _api() -> StacApiServer:
    return StacApiServer([make_item("z")]).__enter__()
