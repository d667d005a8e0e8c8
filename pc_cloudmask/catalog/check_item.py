"""Check one published item against its folder."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import cos, radians
from typing import Any

from pc_cloudmask.catalog.documents import Coverage, read_coverage
from pc_cloudmask.catalog.fields import (
    EXTENSIONS_URI,
    SHA256_MULTIHASH,
    CatalogContext,
    decode_document,
    find_public_url,
)
from pc_cloudmask.catalog.findings import (
    HARMLESS,
    CouldNotRead,
    Finding,
    Problem,
    find_absence,
    is_there,
    looking_at,
    read,
)
from pc_cloudmask.catalog.item import TILES_REL
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_ID, COLLECTION_KEY, ItemKeys
from pc_cloudmask.catalog.versions import (
    PREDECESSOR_REL,
    order_version,
    read_predecessors,
    read_scene_prefix,
    read_sensing_start,
)
from pc_cloudmask.catalog.walk import YearFolder
from pc_cloudmask.errors import AssetRefused, CloudmaskError
from pc_cloudmask.masking.classes import DECIMALS, MaskStatistics, measure_mask
from pc_cloudmask.scene.geometry import check_footprint, find_bbox
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.scene.scene import MASK_ASSET, PREVIEW_ASSET
from pc_cloudmask.source.fields import Item, is_number
from pc_cloudmask.storage.store import ObjectInfo, ObjectStore
from stac_ext import cloudmask

#: A source may have its own ``cloud-probability`` asset; ours is recognized by its folder.
_OWN_ASSETS = (MASK_ASSET, PREVIEW_ASSET)
_SHARES = (cloudmask.CLOUD_PERCENTAGE_PROP, cloudmask.SHADOW_PERCENTAGE_PROP, cloudmask.CLEAR_PERCENTAGE_PROP)
#: A path of plain segments, which all supported stores accept.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*(/[A-Za-z0-9_][A-Za-z0-9_.=+-]*)*")
_CHECKSUM = re.compile(SHA256_MULTIHASH + r"[0-9a-f]{64}")
_SENSED = re.compile(r"S2[A-Z]_MSI[A-Z0-9]+_(\d{8}T\d{6})_")
#: From the start of a datatake, which the id gives, to its last item: a swath takes at most half an hour.
_LONGEST_DATATAKE = timedelta(hours=1)
_CLOCK_TOLERANCE = timedelta(minutes=1)
#: How far a source may have rounded a bbox, in degrees.
_ROUNDING_DEG = 0.01
#: The edge of a tile, 109.8 km, in degrees of latitude.
_TILE_DEG = 1.0
#: Where footprints may cross the antimeridian or reach a pole; Sentinel-2 ends at 84 degrees north.
_ANTIMERIDIAN_DEG, _POLE_DEG = -170.0, 85.0
#: STAC versions of the items that this program has written.
_STAC_VERSION = re.compile(r"1\.\d+\.\d+")
#: Where the schemas that publishing keeps or adds are hosted.
_SCHEMAS = (f"{EXTENSIONS_URI}/", f"{cloudmask.SCHEMA_URI.rsplit('/', 2)[0]}/")
_UNREADABLE = (CloudmaskError, LookupError, TypeError, ValueError, AttributeError)


def find_faults(item: Item, keys: ItemKeys) -> Iterator[str]:
    """Yield what in the item differs from what publishing writes, whatever its source says.

    One of ``_UNREADABLE`` is raised where a field is missing or has the wrong type.
    """
    if item["id"] != keys.item_id:
        yield f"its id is {item['id']!r:.60}"
        return
    yield from _check_form(item, keys)
    try:
        check_footprint(item["geometry"])
    except ValueError as error:
        yield f"its geometry {error}"
        return
    properties = item["properties"]
    parse_instant(properties.get("created", properties["datetime"]))
    if parse_instant(properties["datetime"]).year != keys.year_keys.year:
        yield f"its datetime {properties['datetime']!r:.40} is not of {keys.year_keys.year:04d}"
    tile = properties.get("s2:mgrs_tile", keys.year_keys.tile)
    if tile != keys.year_keys.tile:
        yield f"its s2:mgrs_tile is {tile!r:.40}, not {keys.year_keys.tile}"
    yield from _check_percentages(properties)
    if MASK_ASSET not in item["assets"]:
        yield f"has no asset {MASK_ASSET}"
    public_url = find_public_url(item, keys.item)
    for name, asset in item["assets"].items():
        key = _resolve(public_url, asset["href"], keys.item)
        if key is not None and key.startswith(keys.prefix):
            yield from _check_own_file(name, asset, key, keys)
        elif name in _OWN_ASSETS:
            yield f"its asset {name} is not in its folder"


def find_contradictions(item: Item, keys: ItemKeys) -> Iterator[str]:
    """Yield fields that contradict each other although they were copied from the source unchanged.

    The item must pass ``find_faults``. The source itself may be wrong, so a contradiction does not prove damage.
    """
    sensed = _SENSED.match(keys.item_id)
    moment = parse_instant(item["properties"]["datetime"])
    if sensed is not None:
        try:
            start = datetime.strptime(sensed[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            start = moment
        if not -_CLOCK_TOLERANCE <= moment - start <= _LONGEST_DATATAKE:
            yield f"its datetime {item['properties']['datetime']:.40} is not of the datatake in its id"
    yield from _check_extent(item)


def find_mask_faults(item: Item, shape: tuple[int, ...], statistics: MaskStatistics) -> Iterator[str]:
    """Yield where the item disagrees with its mask, whose ``shape`` is ``(height, width)``."""
    stated = item["assets"][MASK_ASSET].get("proj:shape", list(shape))
    if stated != list(shape):
        yield f"its proj:shape is {stated!r:.40}, its mask's {list(shape)}"
    measured: Mapping[str, float] = {
        cloudmask.CLOUD_PERCENTAGE_PROP: statistics.cloud_percentage,
        cloudmask.SHADOW_PERCENTAGE_PROP: statistics.shadow_percentage,
        cloudmask.CLEAR_PERCENTAGE_PROP: statistics.clear_percentage,
        cloudmask.NODATA_PERCENTAGE_PROP: statistics.nodata_percentage,
    }
    for name, value in measured.items():
        said = item["properties"].get(name, 0.0)
        if said != value:
            yield f"its {name} is {said!r:.40}, its mask has {value}"


def _resolve(public_url: str | None, href: str, from_key: str) -> str | None:
    """Return the key that ``href`` refers to in the document at ``from_key``; None if it lies outside the store."""
    if public_url is not None and href.startswith(f"{public_url}/"):
        return href.removeprefix(f"{public_url}/")
    if "://" in href or href.startswith("/"):
        return None
    key = posixpath.normpath(posixpath.join(posixpath.dirname(from_key), href))
    return key if _KEY.fullmatch(key) else None


def _check_form(item: Item, keys: ItemKeys) -> Iterator[str]:
    """Check what publishing writes into every item: type, version, collection, schemas and links to parents."""
    if item.get("type") != "Feature" or item.get("collection") != COLLECTION_ID:
        yield f"is no Feature of the collection {COLLECTION_ID}"
    if not _STAC_VERSION.fullmatch(str(item.get("stac_version"))):
        yield f"its stac_version is {item.get('stac_version')!r:.40}"
    for uri in item.get("stac_extensions", ()):
        if not str(uri).startswith(_SCHEMAS):
            yield f"lists the extension {uri!r:.80}, which publishing never does"
    if not isinstance(item["links"], list):
        yield "its links are no list"
        return
    public_url = find_public_url(item, keys.item)
    targets = {"root": CATALOG_KEY, "parent": keys.year_keys.catalog, "collection": COLLECTION_KEY}
    for rel, key in targets.items():
        hrefs = [link["href"] for link in item["links"] if link["rel"] == rel]
        if [_resolve(public_url, href, keys.item) for href in hrefs] != [key]:
            yield f"its link {rel} does not lead to {key}, or is not the only one"


def _check_percentages(properties: Mapping[str, Any]) -> Iterator[str]:
    nodata = properties.get(cloudmask.NODATA_PERCENTAGE_PROP)
    shares = [properties[name] for name in _SHARES if name in properties]
    if not all(is_number(value) and 0 <= value <= 100 for value in (nodata, *shares)):
        yield "its cloudmask percentages are not all numbers from 0 to 100"
    elif not shares and nodata != 100:
        yield f"has no percentages of cloud, shadow and clear, and {nodata} % no data"
    elif shares and (len(shares) < len(_SHARES) or round(sum(shares), DECIMALS) != 100):
        yield f"its percentages of cloud, shadow and clear sum to {round(sum(shares), DECIMALS)}, not 100"


def _check_own_file(name: str, asset: Mapping[str, Any], key: str, keys: ItemKeys) -> Iterator[str]:
    """Check that the name of one of our own files ends with the hash of its content."""
    checksum = asset.get("file:checksum")
    if not isinstance(checksum, str) or not _CHECKSUM.fullmatch(checksum):
        yield f"its asset {name:.40} has no file:checksum of SHA-256"
    elif type(asset.get("file:size")) is not int:
        yield f"its asset {name:.40} has no file:size"
    else:
        stem, extension = posixpath.splitext(key.removeprefix(keys.prefix))
        kind = stem.rpartition("-")[0]
        if key != keys.asset(kind, checksum.removeprefix(SHA256_MULTIHASH), extension[1:]):
            yield f"its asset {name:.40} has the file:checksum of another file"


def _check_extent(item: Item) -> Iterator[str]:
    """Check that the bbox is the footprint's or its tile's: it exceeds the footprint by at most a tile's edge."""
    west, south, east, north = find_bbox(item["geometry"])
    if west > east or min(west, -east) < _ANTIMERIDIAN_DEG or max(-south, north) > _POLE_DEG:
        return  # such a box can be written in several ways
    bbox = item["bbox"]
    stated = (*bbox[:2], *bbox[len(bbox) // 2 :][:2])
    edges = (_TILE_DEG / cos(radians(max(-south, north))), _TILE_DEG)
    excess = (west - stated[0], south - stated[1], stated[2] - east, stated[3] - north)
    if not all(-_ROUNDING_DEG <= each <= edge for each, edge in zip(excess, (*edges, *edges), strict=True)):
        yield "its bbox is not that of its geometry"


@dataclass(slots=True)
class ItemCheck:
    """The result of checking one item: its findings, its files' keys, the older items it links, and its coverage.

    ``digest`` is the SHA-256 of its document as read, ``start`` the sensing start of its datastrip. ``lost`` is the key
    of a missing previous version that it links, which is not the item's own fault.
    """

    keys: ItemKeys
    findings: list[Finding] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    predecessors: tuple[str, ...] = ()
    coverage: Coverage | None = None
    digest: str = ""
    fingerprint: str | None = None
    start: str | None = None
    lost: str = ""

    @property
    def is_unread(self) -> bool:
        """Whether some part of it could not be read, so that nothing may be concluded about it."""
        return any(finding.problem is Problem.COULD_NOT_READ for finding in self.findings)

    @property
    def fault(self) -> str:
        """The first of what was not read, or is wrong in what we wrote; empty if the item is sound."""
        return next((str(each) for each in self.findings if each.problem not in HARMLESS), "")

    @property
    def is_broken(self) -> bool:
        """Whether all of it was read, and only publishing the scene again can repair it."""
        return bool(self.fault) and not self.is_unread


def check_item(
    store: ObjectStore, context: CatalogContext, year: YearFolder, item_id: str, *, deep: bool = False
) -> ItemCheck:
    """Check the item's document, its links inside the store, and its files byte by byte.

    The item's own ``self`` link determines which hrefs are inside the store. An item published for another public URL
    is therefore sound, but is reported, because its readers are sent there. A ``deep`` check also validates the rasters
    with rio-cogeo and counts the mask's pixels.
    """
    check = ItemCheck(ItemKeys(year.year_keys, item_id))
    check.findings.extend(_find_all(store, context, year, check, deep=deep))
    return check


def _find_all(
    store: ObjectStore, context: CatalogContext, year: YearFolder, check: ItemCheck, *, deep: bool
) -> Iterator[Finding]:
    keys = check.keys
    try:
        body = _read_listed(store, keys.item, year.folders[keys.item_id].item)
    except CouldNotRead as error:
        yield error.finding
        return
    check.digest = sha256(body).hexdigest()
    try:
        item = decode_document(body, keys.item)
        faults = list(find_faults(item, keys))
        for fault in faults:
            yield Finding(Problem.BROKEN_ITEM, keys.item, fault)
        check.coverage = read_coverage(item)
        check.predecessors = tuple(read_predecessors(item))
        check.start = read_sensing_start(item)
        check.fingerprint = item["properties"].get(cloudmask.FINGERPRINT_PROP)
        if not faults:
            for text in find_contradictions(item, keys):
                yield Finding(Problem.DOUBTFUL_SOURCE, keys.item, text)
            public_url = find_public_url(item, keys.item)
            if public_url not in {None, context.public_url}:
                yield Finding(Problem.FOREIGN_LINKS, keys.item, f"its links lead to {public_url:.200}")
        yield from _check_links(store, year, item, check)
        yield from _check_assets(store, year, item, check, deep=deep and not faults)
    except _UNREADABLE as error:
        detail = " ".join(str(error).split())
        yield Finding(Problem.BROKEN_ITEM, keys.item, f"is not an item of this catalog: {detail:.200}")


def _read_listed(store: ObjectStore, key: str, info: ObjectInfo | None) -> bytes:
    """Read an object that a listing shows as ``info``."""
    stored = read(store, key)
    if stored is None:
        raise CouldNotRead(key, "is listed, and the store says that it is not there")
    if info is not None and len(stored.body) != info.size:
        raise CouldNotRead(key, f"{len(stored.body)} bytes came, its listing says {info.size}")
    return stored.body


def _check_links(store: ObjectStore, year: YearFolder, item: Item, check: ItemCheck) -> Iterator[Finding]:
    keys = check.keys
    public_url = find_public_url(item, keys.item)
    known = {CATALOG_KEY, COLLECTION_KEY, year.year_keys.catalog, keys.item}
    for link in item["links"]:
        key = _resolve(public_url, link["href"], keys.item)
        if key is None or key in known or link["rel"] == TILES_REL:  # a tiler may be below the public URL
            continue
        if not key.startswith(year.year_keys.prefix):
            yield from _check_source_file(store, key)
            continue
        other = key.split("/")[-2]
        folder = year.folders.get(other)
        if folder is None or folder.item is None or folder.item.key != key:
            doubt = find_absence(store, key)
            is_version = link["rel"] == PREDECESSOR_REL and order_version(other) < order_version(keys.item_id)
            if doubt is None and is_version and read_scene_prefix(other) == read_scene_prefix(keys.item_id):
                check.lost = key
            else:
                yield doubt or Finding(Problem.DANGLING_LINK, keys.item, f"links {key}, which is not there")


def _check_assets(
    store: ObjectStore, year: YearFolder, item: Item, check: ItemCheck, *, deep: bool
) -> Iterator[Finding]:
    keys = check.keys
    public_url = find_public_url(item, keys.item)
    for name, asset in item["assets"].items():
        key = _resolve(public_url, asset["href"], keys.item)
        if key is None:
            continue
        if not key.startswith(keys.prefix):
            if name not in _OWN_ASSETS:
                yield from _check_source_file(store, key)
            continue
        check.files.add(key)
        info = year.folders[keys.item_id].objects.get(key.removeprefix(keys.prefix))
        try:
            yield from _check_file(store, key, info, asset)
            if deep and info is not None and key.endswith(".tif"):
                yield from _check_raster(name, key, _read_listed(store, key, info), item, keys)
        except CouldNotRead as error:
            yield error.finding


def _check_file(store: ObjectStore, key: str, info: ObjectInfo | None, asset: Item) -> Iterator[Finding]:
    if info is None:
        doubt = find_absence(store, key)
        yield doubt or Finding(Problem.MISSING_FILE, key, "its item links it and it is not there")
        return
    size, checksum = asset.get("file:size", info.size), asset.get("file:checksum", "")
    if info.size != size:
        yield Finding(Problem.WRONG_FILE, key, f"has {info.size} bytes, its item says {size}")
    elif checksum.startswith(SHA256_MULTIHASH):
        digest = sha256(_read_listed(store, key, info)).hexdigest()
        if digest != checksum.removeprefix(SHA256_MULTIHASH):
            yield Finding(Problem.WRONG_FILE, key, "has another checksum than its item says")


def _check_raster(name: str, key: str, body: bytes, item: Item, keys: ItemKeys) -> Iterator[Finding]:
    """Check the form of a raster and, for a mask, its values."""
    # These load rasterio, which the other checks do not need.
    from pc_cloudmask.catalog.search import decode_mask  # noqa: PLC0415
    from pc_cloudmask.raster.cog import validate_cog  # noqa: PLC0415

    if name == MASK_ASSET:
        # A mask that matches its checksum but cannot be decoded may be the fault of this machine.
        with looking_at(keys.item):
            pixels = decode_mask(body, keys.item_id)
        for fault in find_mask_faults(item, pixels.shape, measure_mask(pixels)):
            yield Finding(Problem.BROKEN_ITEM, keys.item, fault)
    try:
        validate_cog(body, "it")
    except AssetRefused as error:
        yield Finding(Problem.NOT_OPTIMIZED, key, str(error))


def _check_source_file(store: ObjectStore, key: str) -> Iterator[Finding]:
    """Check a file that the item has from its source; it may lie in the store too, but is not ours."""
    try:
        if not is_there(store, key):
            text = "an item links it as its source's, and it is not there"
            yield Finding(Problem.DOUBTFUL_SOURCE, key, text)
    except CouldNotRead as error:
        yield error.finding
