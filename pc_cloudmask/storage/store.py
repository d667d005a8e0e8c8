"""The protocol that every store implements, and the form of keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pc_cloudmask.errors import StoreRefused


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as read; ``etag`` is the store's own token for compare-and-swap."""

    key: str
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as listed; ``modified`` is by the store's clock and does not identify an object."""

    key: str
    size: int
    modified: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """Bytes of an object from some offset on, and the object's total size."""

    body: bytes
    size: int


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """What a store was seen to honour; without both, only one writer at a time may use it."""

    create_only: bool
    compare_and_swap: bool


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Where a store in a bucket is, as far as it is known: its ``s3://`` URL, its endpoint, its region, who pays."""

    url: str
    endpoint: str
    region: str | None = None
    requester_pays: bool = False

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.url.removeprefix("s3://").partition("/")[0]


class ObjectReader(Protocol):
    """The part of a store that readers need.

    All methods raise ``StoreUnavailable`` if trying again can help and ``StoreRefused`` if it cannot.
    """

    @property
    def url(self) -> str:
        """Where the store is: a URL or an absolute path. Followed by a slash and a key, it is an object's href."""

    def read_object(self, key: str) -> StoredObject | None:
        """Return the object, or None if it is absent."""

    def find_object(self, key: str) -> ObjectInfo | None:
        """Return the object's size without its body, or None if it is absent."""

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        """Return up to ``length`` bytes from ``offset`` on, fewer if the object ends; None if it is absent."""


class ObjectStore(ObjectReader, Protocol):
    """A flat space of keys; every write takes effect completely or not at all.

    Keys are relative, ``/``-separated and never begin with a slash.
    """

    def probe_capabilities(self) -> StoreCapabilities:
        """Return what the store honours, tested once with temporary objects below ``_probe/``."""

    def create_object(self, key: str, body: bytes, media_type: str) -> None:
        """Write a key that must not exist, or raise ``KeyExists`` if it does, with other bytes than these."""

    def write_object(self, key: str, body: bytes, media_type: str) -> None:
        """Write a key, whatever it held before."""

    def replace_object(self, key: str, body: bytes, media_type: str, etag: str) -> None:
        """Write a key that still has the ETag ``etag``, or holds these bytes already, or raise ``WriteConflict``."""

    def delete_object(self, key: str) -> None:
        """Delete a key; a missing one is not an error."""

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with ``prefix``, in key order."""

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield the distinct next path segments below ``prefix`` (which ends in ``/`` or is empty)."""


#: A segment never begins with a dot, which excludes ``..`` and hidden names.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,199}")


def check_key(key: str) -> str:
    """Return ``key`` if it is a relative path of plain segments, or raise ``StoreRefused``."""
    if all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        return key
    raise StoreRefused(
        f"key {key[:120]!r} is refused: segments are letters, digits and _.=+-, and begin with no dot"
    )


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if keys can begin with it, as every key does with the empty one, or raise ``StoreRefused``."""
    for part in filter(None, prefix.rpartition("/")[::2]):
        check_key(part)
    if prefix.startswith("/"):
        raise StoreRefused(f"prefix {prefix[:120]!r} is refused: keys never begin with a slash")
    return prefix


#: Objects used to test a store's capabilities; a killed probe leaves one behind.
PROBE_PREFIX = "_probe/"
PROBE_FORM = re.compile(rf"{PROBE_PREFIX}[0-9a-f]{{32}}")
