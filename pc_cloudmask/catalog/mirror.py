"""The geoparquet mirror: one table with a row for every item, and the tile index that goes with it.

Each run appends a part of its own. ``rebuild_mirror`` writes one table of everything the catalogs link and retires the
parts: first it writes the table, then the collection lists it in their place, then the parts are removed. Until then,
and after an item is published again, the item may have several rows: the one with the latest ``updated`` counts.

Hrefs in a row are relative to the mirror's folder where those of the item are relative to the item.

A column has one type, but items come from many producers: a property that is text in one item and a number in all
others would make the entire table impossible. So the types of every field are first counted over all items. Each item
then loses the values that are not of their field's most frequent type, or that no table can hold: empty objects,
integers of more than 64 bits, instants without a zone. Nothing is converted: what remains is what the item says.
"""

from __future__ import annotations

import gzip
import json
import logging
import posixpath
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import orjson

from pc_cloudmask.catalog.documents import PARQUET_MEDIA_TYPE
from pc_cloudmask.catalog.export import (
    UNREADABLE,
    IndexRow,
    LeftOut,
    build_rows_or_warn,
    read_all,
    rebuild_tile_index,
)
from pc_cloudmask.catalog.fields import encode_document, read_document
from pc_cloudmask.catalog.layout import (
    COLLECTION_ID,
    COLLECTION_KEY,
    ITEMS_PREFIX,
    MARK_KEY,
    find_item_keys,
)
from pc_cloudmask.catalog.parents import MIRROR_SUFFIX, RETIRED_SUFFIX, find_mirror_keys
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.walk import read_mirror_keys
from pc_cloudmask.errors import CloudmaskError, SettingsError, SourceRefused, StoreRefused
from pc_cloudmask.scene.geometry import build_shape
from pc_cloudmask.scene.query import parse_instant
from pc_cloudmask.source.fields import Item
from pc_cloudmask.source.hrefs import map_hrefs
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.text import make_printable
from pc_cloudmask.version import tell_extra

logger = logging.getLogger(__name__)
#: Items in one file of a rebuilt mirror: about 14 MB.
FILE_ROWS = 100_000
#: Items in memory at a time: about 150 MB as Python objects.
_CHUNK_ROWS = 1_000
#: Items read in parallel: requests wait for the network, not for the processor.
_READERS = 16
_RUN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_NEEDED = ("stac_geoparquet", "pyarrow", "pyogrio")
_COVERING = {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}
_GEOMETRY = {"encoding": "WKB", "geometry_types": [], "covering": {"bbox": _COVERING}}
#: The metadata of GeoParquet and of stac-geoparquet; without a CRS, the former means degrees of longitude and latitude.
_METADATA = {
    "geo": json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": _GEOMETRY}}),
    "stac-geoparquet": json.dumps({"version": "1.0.0"}),
}
#: What stac-geoparquet and pyarrow raise for items that cannot become a table: an empty object is "not implemented", a
#: number of more than 64 bits an overflow.
_UNFIT_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError)
_SHOWN = 128
#: The content of marks, of which only the names and times count.
_MARK = b"{}\n"


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """What a rebuilt mirror holds: its rows, the keys of its files, and how many other files they replaced.

    ``left_out`` are items, and fields of items, that no table can hold.
    """

    items: int
    files: tuple[str, ...]
    retired: int
    left_out: tuple[LeftOut, ...] = ()


def append_mirror(store: ObjectStore, items: Sequence[Item], run_id: str) -> str | None:
    """Append the items that a run published to the mirror, and return the key of the new part.

    ``items`` are as published. ``run_id`` consists of letters, digits and ``-`` and is unique to the run. Return None,
    after logging why, if stac-geoparquet cannot hold the items or there is no room for them: the mirror is a
    convenience, and ``rebuild_mirror`` completes it. Anything left out of an item is logged too. The collection lists
    the part when it is next written. It raises what ``check_available`` and the store raise.
    """
    if not items:
        return None
    check_available()
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is no run's id")
    left_out: list[LeftOut] = []
    try:
        # With few rows, dictionaries and statistics outweigh the data: without them one item takes 37 kB instead of 71.
        rows = _prepare_rows(items, left_out)
        body = _encode_table(rows, left_out, use_dictionary=False, write_statistics=False)
    except (SourceRefused, StoreRefused) as error:
        logger.warning("no geoparquet mirror of %d items: %s", len(items), error)
        return None
    for each in left_out:
        logger.warning("left out of the geoparquet mirror: %s", each)
    return _write_file(store, f"part-{run_id}", body)


def rebuild_mirror(store: ObjectStore, publisher: Publisher) -> MirrorReport:
    """Rebuild the mirror from every item that the catalogs link; the same items give the same bytes.

    Parts that appear in the meantime are kept, so other runs may continue. If it raises ``StoreUnavailable`` or
    ``StoreRefused``, the mirror is as it was, or holds some items twice.
    """
    check_available()
    _remove_retired(store, publisher)
    store.write_object(MARK_KEY, _MARK, "application/json")
    mark = store.find_object(MARK_KEY)
    replaced = set(find_mirror_keys(store, read_document(store.read_object(COLLECTION_KEY))))
    counter = count()
    left_out: list[LeftOut] = []
    index: list[IndexRow] = []
    prepared = _prepare_rows(_read_items(store, left_out), left_out, index)
    rows = (row for row, _ in zip(prepared, counter, strict=False))
    keys: list[str] = []
    while (first := next(rows, None)) is not None:
        body = _encode_table(chain([first], islice(rows, FILE_ROWS - 1)), left_out)
        keys.append(_write_file(store, "items", body))
    retired = replaced.difference(keys)
    for key in retired:
        store.write_object(f"{key}{RETIRED_SUFFIX}", _MARK, "application/json")
    rebuild_tile_index(store, index)
    publisher.publish_collection()
    _remove_retired(store, publisher)
    found = store.find_object(MARK_KEY)
    if mark is None or found is None or found.modified != mark.modified:  # another rebuild's mark
        store.delete_object(MARK_KEY)
    return MirrorReport(next(counter), tuple(keys), len(retired), tuple(left_out))


def check_available() -> None:
    """Raise ``SettingsError`` if a package that writes the mirror is missing; none is imported."""
    if any(find_spec(name) is None for name in _NEEDED):
        raise SettingsError(f"the mirror needs stac-geoparquet, pyarrow and pyogrio: {tell_extra('index')}")


def _remove_retired(store: ObjectStore, publisher: Publisher) -> None:
    """Remove retired parts, also those that a run that died left, and then their marks.

    A part that the collection still lists, because a listing lacked its mark, is kept; so are all parts if the
    collection cannot be read.
    """
    marks = [info.key for info in store.list_objects(ITEMS_PREFIX) if info.key.endswith(RETIRED_SUFFIX)]
    if not marks:
        return
    publisher.publish_collection()
    collection = read_document(store.read_object(COLLECTION_KEY))
    listed = read_mirror_keys(collection)
    for mark in marks:
        part = mark.removesuffix(RETIRED_SUFFIX)
        if collection is not None and part not in listed:
            store.delete_object(part)
            store.delete_object(mark)


def _read_items(store: ObjectStore, left_out: list[LeftOut]) -> Iterator[Item]:
    for keys, item in read_all(store):
        if item is None:
            left_out.append(LeftOut(keys.item_id, "", UNREADABLE))
        else:
            yield item


def _prepare_rows(
    items: Iterable[Item], left_out: list[LeftOut], index: list[IndexRow] | None = None
) -> Iterator[Item]:
    """Yield the items as rows of the mirror, and add malformed items to ``left_out``.

    Their rows of the tile index are added to ``index``.
    """
    for item in items:
        try:
            row = flatten_bbox(_move_hrefs(item))
            build_shape(row["geometry"])
        except (CloudmaskError, *_UNFIT_ERRORS) as error:
            item_id = make_printable(item.get("id"), _SHOWN)
            left_out.append(
                LeftOut(item_id, "", f"is not as items are published ({error}): run cloudmask check")
            )
        else:
            if index is not None:
                index += build_rows_or_warn(item)
            yield row


def _move_hrefs(item: Item) -> Item:
    """Return ``item`` with its relative hrefs as seen from the mirror's folder."""
    folder = posixpath.join("..", find_item_keys(item).prefix.removeprefix(f"{COLLECTION_ID}/"))

    def move(href: str) -> str:
        is_relative = "://" not in href and not href.startswith("/")
        return posixpath.normpath(posixpath.join(folder, href)) if is_relative else href

    return map_hrefs(item, move)


def _encode_table(items: Iterable[Item], left_out: list[LeftOut], **options: Any) -> bytes:
    """Return the items as stac-geoparquet, with row groups of a thousand; ``options`` go to the Parquet writer.

    Values that no column can hold are added to ``left_out``. It raises ``SourceRefused`` if the items cannot become a
    table even so, and ``StoreRefused`` if there is not enough room for temporary files.
    """
    # An optional extra that takes half a second to import: only runs that write a mirror pay for it.
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415
    from stac_geoparquet.arrow import parse_stac_items_to_arrow  # noqa: PLC0415

    with _open_folder() as folder:
        path, chunks = folder / "table.parquet", folder / "chunks"
        chunks.mkdir()
        try:
            batches = parse_stac_items_to_arrow(
                _fit_rows(items, folder / "rows.json.gz", left_out),
                chunk_size=_CHUNK_ROWS,
                schema="ChunksToDisk",
                tmpdir=chunks,
            )
            # Not with the library's own writer: it stores Arrow's schema, 26 kB that repeat what Parquet's types say.
            # Without that schema, pyarrow writes only metadata that is added like this.
            with ParquetWriter(
                path, batches.schema, compression="zstd", store_schema=False, **options
            ) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                writer.add_key_value_metadata(_METADATA)
        except _UNFIT_ERRORS as error:
            raise SourceRefused(f"the items cannot be written as one geoparquet table: {error}") from error
        return path.read_bytes()


def _fit_rows(items: Iterable[Item], spool: Path, left_out: list[LeftOut]) -> Iterator[Item]:
    """Yield the items fitted to one table, once the types of all are known; ``spool`` holds them in the meantime."""
    types = FieldTypes()
    with gzip.open(spool, "wb", compresslevel=1) as file:
        for item in items:
            types.count(item)
            file.write(encode_document(item))
    with gzip.open(spool) as file:
        for line in file:
            yield types.fit(orjson.loads(line), left_out)


@contextmanager
def _open_folder() -> Iterator[Path]:
    """Create a temporary folder that is removed on exit."""
    try:
        with tempfile.TemporaryDirectory(prefix="cloudmask-") as folder:
            yield Path(folder)
    except OSError as error:
        raise StoreRefused(
            f"the mirror's table finds no room: {error.strerror or error} ({error.filename}): "
            "free some space, or name another folder in TMPDIR"
        ) from error


def _write_file(store: ObjectStore, name: str, body: bytes) -> str:
    """Write a file under a name with the hash of its content, and return its key."""
    key = f"{ITEMS_PREFIX}{name}-{sha256(body).hexdigest()[:16]}{MIRROR_SUFFIX}"
    store.write_object(key, body, PARQUET_MEDIA_TYPE)
    return key


#: Names of the fields that lead to a value; "[]" stands for an element of a list.
FieldPath = tuple[str, ...]
#: Properties that become timestamp columns.
_INSTANTS = frozenset(
    {
        "datetime",
        "start_datetime",
        "end_datetime",
        "created",
        "updated",
        "expires",
        "published",
        "unpublished",
    }
)
#: Integers up to this are exact as doubles, so they may share a column with fractions.
_EXACT = 1 << 53
#: Timestamp columns have a resolution of microseconds.
_BEYOND_US = re.compile(r"(?<=\.\d{6})\d+")
_PROJ_GEOMETRY = "proj:geometry"
_NULL, _UNFIT = "null", "unfit"
_ABSENT = object()


@dataclass(slots=True)
class FieldTypes:
    """How often each field of the items has each type."""

    _counts: dict[FieldPath, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def count(self, item: Item) -> None:
        """Count the types of an item."""
        for path, value in _walk((), item):
            kind = _find_kind(path, value)
            if kind not in {_NULL, _UNFIT}:
                self._counts[path][kind] += 1

    def fit(self, item: Item, left_out: list[LeftOut]) -> Item:
        """Return ``item`` without the values that no column can hold, which are added to ``left_out``."""
        odd: dict[FieldPath, str] = {}
        fitting: Item = self._fit((), item, odd)
        item_id = str(item["id"])
        left_out += [LeftOut(item_id, ".".join(path), reason) for path, reason in odd.items()]
        return fitting

    def _fit(self, path: FieldPath, value: Any, odd: dict[FieldPath, str]) -> Any:
        """Return ``value`` fitted to its column, or ``_ABSENT`` if it cannot be."""
        kind = _find_kind(path, value)
        if kind == _NULL:
            return None
        counts = self._counts.get(path)
        usual = counts.most_common(1)[0][0] if counts else _UNFIT
        if kind == _UNFIT or kind != usual:
            odd[path] = _explain(path, value, usual)
            return _ABSENT
        if kind == "instant":
            return _BEYOND_US.sub("", value)
        if kind == "object":
            kept = {name: self._fit((*path, name), inner, odd) for name, inner in value.items()}
            return {name: inner for name, inner in kept.items() if inner is not _ABSENT} or None
        return self._fit_list(path, value, odd) if kind == "list" else value

    def _fit_list(self, path: FieldPath, values: list[Any], odd: dict[FieldPath, str]) -> Any:
        """Return a list fitted to its column, or ``_ABSENT``: without odd elements, it would mean something else."""
        inner = (*path, "[]")
        kept = [self._fit(inner, value, odd) for value in values]
        if any(value is _ABSENT for value in kept):
            odd[path] = odd.pop(inner, "holds what fits no column")
            return _ABSENT
        return kept


def flatten_bbox(item: Item) -> Item:
    """Return ``item`` with a bbox of four numbers: one with heights would need another type of column."""
    bbox = item.get("bbox")
    return {**item, "bbox": [*bbox[:2], *bbox[3:5]]} if isinstance(bbox, list) and len(bbox) == 6 else item


def _walk(path: FieldPath, value: Any) -> Iterator[tuple[FieldPath, Any]]:
    yield path, value
    if path == ("geometry",) or path[-1:] == (_PROJ_GEOMETRY,):
        return
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = (("[]", each) for each in value)
    for name, each in inner:
        yield from _walk((*path, name), each)


def _find_kind(path: FieldPath, value: Any) -> str:
    """Return the type of a column that can hold ``value``."""
    if value is None or value == {}:
        return _NULL
    if path == ("geometry",) or path[-1:] == (_PROJ_GEOMETRY,):
        shape = _parse(build_shape, value)
        return _UNFIT if shape is None or shape.is_empty else "geometry"
    if path[:1] == ("properties",) and len(path) == 2 and path[1] in _INSTANTS:
        return "instant" if isinstance(value, str) and _parse(parse_instant, value) else _UNFIT
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return "long integer" if -(1 << 63) <= value < 1 << 63 else _UNFIT
    kinds = {bool: "truth value", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return kinds.get(type(value), _UNFIT)


def _explain(path: FieldPath, value: Any, usual: str) -> str:
    kind = _find_kind(path, value)
    if kind != _UNFIT:
        return f"is of type {kind}, and in other items of type {usual}"
    if path[-1] in _INSTANTS:
        return "is no RFC 3339 instant with its zone"
    return "is no geometry" if isinstance(value, dict) else "is an integer of more than 64 bits"


def _parse(parse: Callable[[Any], Any], value: Any) -> Any:
    with suppress(ValueError):
        return parse(value)
    return None
