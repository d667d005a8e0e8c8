"""What every published item keeps, whatever its source was."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from math import cos, radians
from typing import Any

from flows.masking.statistics import DECIMALS, MaskStatistics
from flows.scene.query import parse_instant
from flows.stac.asset_fields import SHA256_MULTIHASH
from flows.stac.item_extent import find_bbox, read_footprint
from flows.stac.item_reader import ItemReader, is_number
from flows.stac.layout import MASK_ASSET, PREVIEW_ASSET, ItemKeys
from flows.stac.links import find_public_url
from stac_ext.cloudmask import (
    CLEAR_PERCENTAGE_PROP,
    CLOUD_PERCENTAGE_PROP,
    NODATA_PERCENTAGE_PROP,
    SHADOW_PERCENTAGE_PROP,
)

Item = dict[str, Any]

#: A source may have an asset ``cloud-probability`` of its own; its like of ours is told by its folder.
OWN_ASSETS = (MASK_ASSET, PREVIEW_ASSET)
_SHARES = (CLOUD_PERCENTAGE_PROP, SHADOW_PERCENTAGE_PROP, CLEAR_PERCENTAGE_PROP)
#: A path of plain segments, as every store of ours takes it.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*(/[A-Za-z0-9_][A-Za-z0-9_.=+-]*)*")
_CHECKSUM = re.compile(SHA256_MULTIHASH + r"[0-9a-f]{64}")
_SENSED = re.compile(r"S2[A-Z]_MSI[A-Z0-9]+_(\d{8}T\d{6})_")
#: From a datatake's start, which the id tells, to its last item: a swath takes half an hour at the most.
_LONGEST_DATATAKE = timedelta(hours=1)
_CLOCK_TOLERANCE = timedelta(minutes=1)
#: Degrees by which a source may have rounded a bbox.
_ROUNDING_DEG = 0.01
#: The edge of a tile, 109.8 km, in degrees of latitude.
_TILE_DEG = 1.0
#: Where footprints may cross the antimeridian or reach a pole; Sentinel-2 ends at 84 degrees north.
_ANTIMERIDIAN_DEG, _POLE_DEG = -170.0, 85.0


def find_faults(item: Item, keys: ItemKeys) -> Iterator[str]:
    """Say what of the item is not as publishing writes it, whatever its source says.

    Raises:
        CloudmaskError, LookupError, TypeError, ValueError, AttributeError: a field is missing or of
            another type.
    """
    if item["id"] != keys.item_id:
        yield f"its id is {item['id']!r:.60}"
        return
    read_footprint(ItemReader(item))
    properties = item["properties"]
    if parse_instant(properties["datetime"]).year != keys.leaf.year:
        yield f"its datetime {properties['datetime']!r:.40} is not of {keys.leaf.year:04d}"
    tile = properties.get("s2:mgrs_tile", keys.leaf.tile)
    if tile != keys.leaf.tile:
        yield f"its s2:mgrs_tile is {tile!r:.40}, not {keys.leaf.tile}"
    yield from _check_percentages(properties)
    if MASK_ASSET not in item["assets"]:
        yield f"has no asset {MASK_ASSET}"
    public_url = find_public_url(item, keys.item)
    for name, asset in item["assets"].items():
        key = resolve_href(public_url, asset["href"], keys.item)
        if key is not None and key.startswith(keys.prefix):
            yield from _check_own_file(name, asset, key, keys)
        elif name in OWN_ASSETS:
            yield f"its asset {name} is not in its folder"


def find_contradictions(item: Item, keys: ItemKeys) -> Iterator[str]:
    """Say which fields, taken from the source as they are, contradict each other.

    An item that passes ``find_faults`` is expected. Its source may be wrong, so this proves no harm.
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
    """Say where the item does not tell what its mask, of ``(height, width)`` pixels, holds."""
    stated = item["assets"][MASK_ASSET].get("proj:shape", list(shape))
    if stated != list(shape):
        yield f"its proj:shape is {stated!r:.40}, its mask's {list(shape)}"
    measured: Mapping[str, float] = {
        CLOUD_PERCENTAGE_PROP: statistics.cloud_percentage,
        SHADOW_PERCENTAGE_PROP: statistics.shadow_percentage,
        CLEAR_PERCENTAGE_PROP: statistics.clear_percentage,
        NODATA_PERCENTAGE_PROP: statistics.nodata_percentage,
    }
    for name, value in measured.items():
        said = item["properties"].get(name, 0.0)
        if said != value:
            yield f"its {name} is {said!r:.40}, its mask has {value}"


def resolve_href(public_url: str | None, href: str, from_key: str) -> str | None:
    """The key that ``href`` names in the document at ``from_key``; None outside the store."""
    if public_url is not None and href.startswith(f"{public_url}/"):
        return href.removeprefix(f"{public_url}/")
    if "://" in href or href.startswith("/"):
        return None
    key = posixpath.normpath(posixpath.join(posixpath.dirname(from_key), href))
    return key if _KEY.fullmatch(key) else None


def _check_percentages(properties: Mapping[str, Any]) -> Iterator[str]:
    nodata = properties.get(NODATA_PERCENTAGE_PROP)
    shares = [properties[name] for name in _SHARES if name in properties]
    if not all(is_number(value) and 0 <= value <= 100 for value in (nodata, *shares)):
        yield "its cloudmask percentages are not all numbers from 0 to 100"
    elif not shares and nodata != 100:
        yield f"has no percentages of cloud, shadow and clear, and {nodata} % no data"
    elif shares and (len(shares) < len(_SHARES) or round(sum(shares), DECIMALS) != 100):
        yield f"its percentages of cloud, shadow and clear sum to {round(sum(shares), DECIMALS)}, not 100"


def _check_own_file(name: str, asset: Mapping[str, Any], key: str, keys: ItemKeys) -> Iterator[str]:
    """The name of a file of ours ends with the hash of its content."""
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
    """A bbox is that of the footprint or that of its tile, never more than a tile's edge apart."""
    west, south, east, north = find_bbox(item["geometry"])
    if west > east or min(west, -east) < _ANTIMERIDIAN_DEG or max(-south, north) > _POLE_DEG:
        return  # there are several ways to write such a box
    bbox = item["bbox"]
    stated = (*bbox[:2], *bbox[len(bbox) // 2 :][:2])
    edges = (_TILE_DEG / cos(radians(max(-south, north))), _TILE_DEG)
    excess = (west - stated[0], south - stated[1], stated[2] - east, stated[3] - north)
    if not all(-_ROUNDING_DEG <= each <= edge for each, edge in zip(excess, (*edges, *edges), strict=True)):
        yield "its bbox is not that of its geometry"
