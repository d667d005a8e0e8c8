"""An object store in memory: fast enough to try every interleaving, and able to lose answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

from pc_cloudmask.errors import KeyExists, StoreUnavailable, WriteConflict
from pc_cloudmask.storage.store import (
    ObjectInfo,
    ObjectPart,
    StoreCapabilities,
    StoredObject,
    check_key,
    check_prefix,
)


class MemoryStore:
    """A dictionary that keeps the contract of ``ObjectStore``; ``requests`` counts calls by name.

    ``lose_next_answer`` makes the next write happen and then raise as an unknown outcome. The next
    ``spoiled["list"]`` listings of objects, and ``spoiled["folders"]`` of folders, hold the first
    ``kept_share`` of what is there and look complete. ``modified`` is the store's clock: what is written
    takes its time, and what is put into ``objects`` has it always.
    """

    def __init__(self, modified: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: dict[str, int] = {}
        self.written_bytes = 0
        self.lose_next_answer = False
        self.spoiled = {"list": 0, "folders": 0}
        self.kept_share = 0.0
        self.modified = modified
        self._times: dict[str, datetime] = {}
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        return "memory"

    def probe_capabilities(self) -> StoreCapabilities:
        return StoreCapabilities(create_only=True, compare_and_swap=True)

    def read_object(self, key: str) -> StoredObject | None:
        self._count("read")
        body = self.objects.get(check_key(key))
        return None if body is None else StoredObject(key, body, _etag(body))

    def find_object(self, key: str) -> ObjectInfo | None:
        self._count("find")
        body = self.objects.get(check_key(key))
        return None if body is None else ObjectInfo(key, len(body), self._times.get(key, self.modified))

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        self._count("part")
        body = self.objects.get(check_key(key))
        return None if body is None else ObjectPart(body[offset : offset + length], len(body))

    def create_object(self, key: str, body: bytes, media_type: str) -> None:
        with self._lock:
            if self.objects.get(check_key(key), body) != body:
                raise KeyExists(f"{key} exists in {self.url} with other content")
            self._write(key, body)

    def write_object(self, key: str, body: bytes, media_type: str) -> None:
        with self._lock:
            self._write(key, body)

    def replace_object(self, key: str, body: bytes, media_type: str, etag: str) -> None:
        with self._lock:
            current = self.objects.get(check_key(key))
            if current is None or (current != body and _etag(current) != etag):
                raise WriteConflict(f"{key} was changed by another writer: read it again")
            self._write(key, body)

    def delete_object(self, key: str) -> None:
        self._count("delete")
        self.objects.pop(check_key(key), None)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        self._count("list")
        for key in self._spoil("list", self._sorted_keys(prefix)):
            body = self.objects.get(key)
            if body is not None:
                yield ObjectInfo(key, len(body), self._times.get(key, self.modified))

    def list_folders(self, prefix: str) -> Iterator[str]:
        self._count("list")
        rests = (key.removeprefix(prefix) for key in self._sorted_keys(prefix))
        folders = list(dict.fromkeys(rest.split("/")[0] for rest in rests if "/" in rest))
        yield from self._spoil("folders", folders)

    def _spoil(self, kind: str, entries: list[str]) -> list[str]:
        """What a listing answers; cut short where it is to be spoiled."""
        with self._lock:
            if self.spoiled[kind] == 0:
                return entries
            self.spoiled[kind] -= 1
            return entries[: int(len(entries) * self.kept_share)]

    def _sorted_keys(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        with self._lock:
            return sorted(key for key in self.objects if key.startswith(prefix))

    def _write(self, key: str, body: bytes) -> None:
        self._count("write")
        self.written_bytes += len(body)
        self.objects[check_key(key)] = body
        self._times[key] = self.modified
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise StoreUnavailable(f"{key}: the answer was lost")

    def _count(self, name: str) -> None:
        with self._lock:
            self.requests[name] = self.requests.get(name, 0) + 1


def _etag(body: bytes) -> str:
    return sha256(body).hexdigest()
