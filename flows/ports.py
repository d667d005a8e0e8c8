"""The three ports: where scenes come from, what derives a mask, where objects go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flows.masking.inputs import CloudInputs
from flows.scene.granule import Granule, Pairing
from flows.scene.query import SceneQuery
from flows.scene.scene import Scene

Item = dict[str, Any]
"""A STAC item as its JSON says it, hrefs unsigned."""


class SceneSource(Protocol):
    """Finds Sentinel-2 items, and says where their assets may be read from."""

    @property
    def local_root(self) -> Path | None:
        """The folder that local assets must lie in; None where no asset may be local."""
        ...

    @property
    def asset_hosts(self) -> frozenset[str]:
        """Hosts that assets may be read from."""
        ...

    @property
    def allow_loopback(self) -> bool:
        """Whether assets may be read from loopback: the items come from there."""
        ...

    def find_items(self, query: SceneQuery) -> Iterator[Item]:
        """The matching items, ordered by datetime, then id; each id once; hrefs unsigned.

        Raises:
            SourceUnavailable: no complete answer within the deadline.
            SourceRefused: an answer that is not a page of items of allowed size.
        """
        ...


@dataclass(frozen=True, slots=True)
class DerivedMask:
    """A mask, and how it was made.

    ``classes`` is uint8 ``(height, width)`` on the scene's grid with values of ``MaskClass``.
    ``software`` maps a package or model to its version, for ``processing:software``.
    ``inputs`` is kept where the engine has them, to publish the probability beside the mask.
    """

    classes: NDArray[np.uint8]
    granule: Granule = field(default_factory=Granule)
    software: Mapping[str, str] = field(default_factory=dict)
    inputs: CloudInputs | None = None


class CloudInputsSource(Protocol):
    """Gives the inputs of a mask with projected shadows: Earth Engine, or rasters beside the item."""

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the granule or why there is none yet; one round trip for many scenes."""
        ...

    def read_inputs(self, scene: Scene, granule: Granule) -> CloudInputs:
        """The inputs on the scene's grid.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        ...


class MaskEngine(Protocol):
    """Derives masks by one method."""

    @property
    def method(self) -> str:
        """``s2cloudless``, ``cloud-score-plus`` or ``csmask``."""
        ...

    def find_granules(self, scenes: Sequence[Scene]) -> Mapping[str, Pairing]:
        """By scene id, the granule or why there is none yet."""
        ...

    def derive_mask(self, scene: Scene, granule: Granule) -> DerivedMask:
        """The mask of one scene.

        Raises:
            EngineUnavailable, AssetUnavailable: try again later.
            EngineRefused, AssetRefused: never.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it was read: ``etag`` is the store's own token for compare-and-swap."""

    key: str
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing tells it; ``modified`` is by the store's clock and tells no objects apart."""

    key: str
    size: int
    modified: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """What a store was seen to honour: without both, only one writer at a time may work on it."""

    create_only: bool
    compare_and_swap: bool


class ObjectReader(Protocol):
    """The part of a store that readers need."""

    @property
    def url(self) -> str:
        """Where it is: a URL, or an absolute path. With a slash and a key it makes an object's href."""
        ...

    def read_object(self, key: str) -> StoredObject | None:
        """The object, or None."""
        ...

    def find_object(self, key: str) -> ObjectInfo | None:
        """Size of the object without its body, or None."""
        ...


class ObjectStore(ObjectReader, Protocol):
    """A flat space of keys; every write is whole or not there.

    Keys are relative, ``/``-separated and never begin with a slash. All methods raise
    ``StoreUnavailable`` where trying again can help and ``StoreRefused`` where it cannot.
    """

    def probe_capabilities(self) -> StoreCapabilities:
        """What the store honours, tried once on objects below ``_probe/`` that are removed again."""
        ...

    def create_object(self, key: str, body: bytes, media_type: str) -> None:
        """Write a key that must not exist.

        Raises:
            KeyExists: it does, with other bytes than these.
        """
        ...

    def write_object(self, key: str, body: bytes, media_type: str) -> None:
        """Write a key whatever it held."""
        ...

    def replace_object(self, key: str, body: bytes, media_type: str, etag: str) -> None:
        """Write a key that must still hold what ``etag`` was read with, or hold these bytes already.

        Raises:
            WriteConflict: another writer was faster, or the object is gone.
        """
        ...

    def delete_object(self, key: str) -> None:
        """Remove a key; a missing one is no error."""
        ...

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with ``prefix``, in key order."""
        ...

    def list_folders(self, prefix: str) -> Iterator[str]:
        """The distinct next path segments below ``prefix`` (which ends in ``/`` or is empty)."""
        ...
