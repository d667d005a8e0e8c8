"""The Earth Engine image that belongs to a scene."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Granule:
    """The ``system:index`` of the image, or of both images of a split datatake, in mosaic order.

    Empty for an engine that needs no Earth Engine image.
    """

    image_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """No image yet: the scene is tried again later, never given an empty mask."""

    reason: str


Pairing = Granule | Waiting
