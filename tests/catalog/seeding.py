"""Catalogs of any size, put where publishing would have put them, and what publishing costs there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import TypeVar

from pc_cloudmask.catalog.publisher import Publication
from pc_cloudmask.storage.store import ObjectInfo, ObjectPart, ObjectStore, StoreCapabilities, StoredObject
from tests.catalog.publications import build_publication, product_id

T = TypeVar("T")

#: One satellite passes every five days.
LEAF_ITEMS = 73
COLUMNS = ROWS = "ABCDEFGHJKLMNPQRSTUV"
#: Objects that one request of an S3 listing gives.
PAGE_OBJECTS = 1000


def seed_publications(count: int) -> Iterator[Publication]:
    """So many publications, 73 to a year, eight years to a tile, tiles of two bands in turn."""
    days = range(0, LEAF_ITEMS * 5, 5)
    slots = (
        product_id(365 * year + day, f"{zone}{column}{row}")
        for column, row, zone, year, day in product(COLUMNS, ROWS, ("22K", "33U"), range(8), days)
    )
    return map(build_publication, islice(slots, count))


def seed_items(put: Callable[[str, bytes], object], count: int) -> None:
    """Put that many items and their files; ``check --repair`` makes the catalogs."""
    for publication in seed_publications(count):
        for file in publication.files:
            put(file.key, file.body)
        put(publication.keys.item, publication.body)


class CountingStore:
    """Counts the requests that the same calls would be to a bucket, and the bytes written."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self.requests: Counter[str] = Counter()
        self.written: dict[str, int] = {}

    @property
    def url(self) -> str:
        return self._inner.url

    def probe_capabilities(self) -> StoreCapabilities:
        return self._inner.probe_capabilities()

    def read_object(self, key: str) -> StoredObject | None:
        self.requests["GET"] += 1
        return self._inner.read_object(key)

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        self.requests["GET"] += 1
        return self._inner.read_part(key, offset, length)

    def find_object(self, key: str) -> ObjectInfo | None:
        self.requests["HEAD"] += 1
        return self._inner.find_object(key)

    def create_object(self, key: str, body: bytes, media_type: str) -> None:
        self._count_write(key, body)
        self._inner.create_object(key, body, media_type)

    def write_object(self, key: str, body: bytes, media_type: str) -> None:
        self._count_write(key, body)
        self._inner.write_object(key, body, media_type)

    def replace_object(self, key: str, body: bytes, media_type: str, etag: str) -> None:
        self._count_write(key, body)
        self._inner.replace_object(key, body, media_type, etag)

    def delete_object(self, key: str) -> None:
        self.requests["DELETE"] += 1
        self._inner.delete_object(key)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._paged(self._inner.list_objects(prefix))

    def list_folders(self, prefix: str) -> Iterator[str]:
        yield from self._paged(self._inner.list_folders(prefix))

    def _paged(self, entries: Iterator[T]) -> Iterator[T]:
        self.requests["LIST"] += 1
        for number, entry in enumerate(entries):
            if number and number % PAGE_OBJECTS == 0:
                self.requests["LIST"] += 1
            yield entry

    def _count_write(self, key: str, body: bytes) -> None:
        self.requests["PUT"] += 1
        self.written[key] = self.written.get(key, 0) + len(body)
