"""What is published of one scene."""

from __future__ import annotations

from dataclasses import dataclass

from flows.stac.layout import ItemKeys


@dataclass(frozen=True, slots=True)
class PublicationFile:
    """One asset's file under a key that carries the hash of its content."""

    key: str
    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Publication:
    """An encoded item with every file that it links inside the store."""

    keys: ItemKeys
    item: bytes
    files: tuple[PublicationFile, ...]
