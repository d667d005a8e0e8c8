"""What of a source item may be published: the fields that STAC and the extensions it lists allow.

The rule: what the mask rests on, its place in the catalog, and every href is sound, or the item is refused by
the field's name (``pc_cloudmask.source.item``). Any other field that its schema does not allow is left out and
named in one line of the log, and so is an extension that we do not know or that has none of its fields.
So whatever an item holds, what is published of it is valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pc_cloudmask.catalog.field_types import COMMON, EXTENSIONS, Extension
from pc_cloudmask.catalog.fields import EXTENSIONS_URI, PUBLISHED_URIS, find_unlisted, merge_extensions
from pc_cloudmask.scene.ids import MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET
from pc_cloudmask.source.fields import Item
from stac_ext import cloudmask

#: Fields that are lists of objects with fields of their own.
_BANDS = ("bands", "raster:bands")
_OWN_ASSETS = frozenset({MASK_ASSET, PREVIEW_ASSET, PROBABILITY_ASSET})
_OWN_PREFIX = cloudmask.PREFIX.rstrip(":")
_MOST_NAMED = 10
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class ValidSource:
    """What of a source item may be published, and the names of what may not."""

    item: Item
    left_out: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What was left out in one line: ``properties.gsd, assets.B02.roles and 3 more``."""
        shown = (name[:_LONGEST_NAME] for name in self.left_out[:_MOST_NAMED])
        named = ", ".join(name if name.isprintable() else ascii(name) for name in shown)
        further = len(self.left_out) - _MOST_NAMED
        return f"{named} and {further} more" if further > 0 else named


@dataclass(frozen=True, slots=True)
class _Rules:
    """The types of known fields, and the prefixes that allow no other field than these."""

    types: Mapping[str, TypeAdapter[Any]]
    closed: Mapping[str, frozenset[str]]


def keep_valid(item: Item) -> ValidSource:
    """What may be published of ``item``, one that makes a scene; ``item`` itself is not changed."""
    known = [uri for uri in item.get("stac_extensions", ()) if _find_end(uri) in EXTENSIONS]
    uris = merge_extensions(known, PUBLISHED_URIS)
    rules, left_out = _build_rules(tuple(uris)), list[str]()
    geometry = {name: item["geometry"][name] for name in ("type", "coordinates")}
    left_out += [f"geometry.{name}" for name in item["geometry"] if name not in geometry]
    properties = _keep_fields(item["properties"], rules, "properties", left_out)
    assets = {
        name: _keep_fields(asset, rules, f"assets.{name}", left_out) for name, asset in item["assets"].items()
    }
    theirs = {name: asset for name, asset in assets.items() if name not in _OWN_ASSETS}
    for name in ("bands", "eo:bands"):
        # As the schemas have it: bands of the item only beside bands of an asset.
        if name in properties and not any(name in asset for asset in theirs.values()):
            del properties[name]
            left_out.append(f"properties.{name}")
    kept = [
        uri
        for uri in uris
        if uri in PUBLISHED_URIS or _is_used(EXTENSIONS[_find_end(uri)], properties, theirs)
    ]
    left_out += [f"stac_extensions {uri}" for uri in find_unlisted(item.get("stac_extensions", ()), kept)]
    valid = {"geometry": geometry, "properties": properties, "assets": assets, "stac_extensions": kept}
    return ValidSource({**item, **valid}, tuple(left_out))


def migrate_projection(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` with the projection extension's ``proj:epsg`` as version 2 writes it, in its place."""
    if "proj:epsg" not in fields:
        return dict(fields)
    epsg = fields["proj:epsg"]
    code = fields.get("proj:code") or (f"EPSG:{epsg}" if type(epsg) is int else None)
    migrated = {"proj:code" if name == "proj:epsg" else name: value for name, value in fields.items()}
    return {**migrated, "proj:code": code}


def _keep_fields(source: Mapping[str, Any], rules: _Rules, path: str, left_out: list[str]) -> dict[str, Any]:
    fields = migrate_projection(source)
    wrong = frozenset(_find_wrong(fields, rules))
    left_out += [f"{path}.{name}" for name in fields if name in wrong]
    return {name: value for name, value in fields.items() if name not in wrong}


def _find_wrong(fields: Mapping[str, Any], rules: _Rules) -> Iterator[str]:
    """Names of the fields that may not be published as they are."""
    yield from (name for name, value in fields.items() if not _is_allowed(name, value, rules))
    # One end of a time span without the other.
    ends = [name for name in ("start_datetime", "end_datetime") if name in fields]
    if len(ends) == 1:
        yield ends[0]


def _is_allowed(name: str, value: Any, rules: _Rules) -> bool:
    if name in _BANDS and not _are_bands(value, rules):
        return False
    kind = rules.types.get(name)
    if kind is not None and not _is_of(kind, value):
        return False
    names = rules.closed.get(name.partition(":")[0]) if ":" in name else None
    return names is None or name in names


def _are_bands(bands: Any, rules: _Rules) -> bool:
    return isinstance(bands, list) and all(
        isinstance(band, dict) and isinstance(band.get("name", ""), str) and not any(_find_wrong(band, rules))
        for band in bands
    )


def _is_of(kind: TypeAdapter[Any], value: Any) -> bool:
    try:
        kind.validate_python(value, strict=True)
    except (ValidationError, ValueError, OverflowError, RecursionError):
        return False
    return True


def _find_end(uri: str) -> str:
    """Name and version in the URI of an extension's schema; the URI itself where it has another form."""
    return uri.removeprefix(f"{EXTENSIONS_URI}/").removesuffix("/schema.json")


def _is_used(extension: Extension, properties: Item, assets: Mapping[str, Item]) -> bool:
    """Whether the item has what the schema of ``extension`` wants of one that lists it."""
    if not extension.needs <= properties.keys():
        return False
    holders = [properties, *(assets.values() if extension.in_assets else ())]
    bands = [band for holder in holders for band in holder.get("bands", ())]
    return any(not extension.fields.keys().isdisjoint(holder) for holder in (*holders, *bands))


@lru_cache(maxsize=64)
def _build_rules(uris: tuple[str, ...]) -> _Rules:
    """Rules for an item that lists ``uris``; fields of an extension that it does not list are judged too."""
    listed = [end for end in map(_find_end, uris) if end in EXTENSIONS]
    types: dict[str, TypeAdapter[Any]] = {}
    for end in ("", *EXTENSIONS, *listed):
        types |= _adapt(end)
    closed = {_OWN_PREFIX: frozenset[str]()}
    for end in listed:
        closed |= {prefix: frozenset(EXTENSIONS[end].fields) for prefix in EXTENSIONS[end].prefixes}
    return _Rules(types, closed)


@cache
def _adapt(end: str) -> dict[str, TypeAdapter[Any]]:
    """What judges the fields of the extension with that end of a URI; of STAC itself without one."""
    fields = EXTENSIONS[end].fields if end else COMMON
    return {name: TypeAdapter(kind) for name, kind in fields.items()}
