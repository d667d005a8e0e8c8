"""The Earth Engine image that belongs to a scene.

Earth Engine names an image of Sentinel-2 by its ``system:index``: the start of the datatake, the sensing start of the
datastrip and the tile, as in ``20190629T212529_20190629T212530_T06VVN``. A Planetary Computer item has all three. The
last part of an item's id is of no use: the Planetary Computer makes its own Level-2A products, so their discriminator
differs from ESA's.

How a scene is paired, by ``pair_images``:

1. Exactly, by datastrip. A datatake may be split into two datastrips, and so a tile into two images and two items. An
   item whose own datastrip is there is paired with that image alone: the other half belongs to the other item. If one
   collection has that image, the others will have it too, so the scene waits for them.
2. By footprint, only if no collection has the item's own datastrip: the two archives divide some datatakes into
   different datastrips. Of the images of the same datatake and tile, the one that covers most of the item's footprint
   is taken; a further one, such as the other half of a split datatake, is added if it increases the cover. Cover is
   measured on outlines, since the bounding box of each half is that of the tile.

Invariants: an image of another datatake or tile is never taken, however well it fits. A scene waits and is tried again
later if less than ``NEEDED_COVER`` of it is covered, or if a collection lacks one of its images: a mask made now would
be partly empty. Images are in the order of their sensing start, so that the mosaic shows the later one where they
overlap. The result depends on which images exist, not on the order in which they were found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from pc_cloudmask.errors import InvalidField
from pc_cloudmask.scene.geometry import build_shape
from pc_cloudmask.scene.scene import Scene

#: GeoJSON in longitude and latitude: Polygon, MultiPolygon, or Earth Engine's LinearRing.
Geometry = Mapping[str, Any]


def read_area(footprint: Geometry, near_lon: float | None = None) -> BaseGeometry:
    """Return the geometry of a footprint in degrees of longitude and latitude; an empty polygon if it has none.

    Every longitude is moved by full turns to within 180 degrees of ``near_lon``, by default that of the first vertex,
    so that what crosses the antimeridian continues beyond 180, however it is written.
    """
    if footprint.get("type") == "LinearRing":
        footprint = {"type": "Polygon", "coordinates": [footprint.get("coordinates")]}
    try:
        area = build_shape(footprint)
    except ValueError:
        return shapely.Polygon()
    vertices = shapely.get_coordinates(area)
    if not len(vertices):
        return area
    middle = vertices[0, 0] if near_lon is None else near_lon
    vertices[:, 0] -= 360 * np.round((vertices[:, 0] - middle) / 360)
    # Self-intersecting areas cannot be compared.
    return shapely.make_valid(
        shapely.set_coordinates(area, vertices), method="structure", keep_collapsed=False
    )


_TIME = r"20\d{6}T\d{6}"
_TILE = r"\d{2}[A-Z]{3}"
_DATATAKE_ID = re.compile(rf"GS2[A-Z]_({_TIME})_\d{{6}}_N\d\d\.\d\d", re.ASCII)
_DATASTRIP_ID = re.compile(rf"S2[A-Z]_\w+?_DS_\w+?_{_TIME}_S({_TIME})(?:_N\d\d\.\d\d)?", re.ASCII)
_IMAGE_INDEX = re.compile(rf"({_TIME})_({_TIME})_T({_TILE})", re.ASCII)
#: Share of an item's footprint that images must cover to be paired by footprint.
NEEDED_COVER = 0.9
#: Share of the footprint that a further image must add; neighbouring datastrips overlap by less.
LEAST_GAIN = 0.01


#: Processing levels of the near infrared: surface reflectance, or top-of-atmosphere reflectance if there is no other.
L2A_LEVEL, L1C_LEVEL = "L2A", "L1C"


@dataclass(frozen=True, slots=True)
class EarthEngineImage:
    """The ``system:index`` of the image, or of both images of a split datatake, in mosaic order.

    Empty for an engine that needs no Earth Engine image. ``level`` is that of the near infrared.
    """

    image_ids: tuple[str, ...] = ()
    level: str = L2A_LEVEL


@dataclass(frozen=True, slots=True)
class Waiting:
    """No image yet: the scene is tried again later, never given an empty mask."""

    reason: str


Pairing = EarthEngineImage | Waiting


@dataclass(frozen=True, slots=True, order=True)
class ImageKey:
    """The parts of a ``system:index``: times such as ``20190629T212529``, the tile as ``06VVN``."""

    datatake_start: str
    sensing_start: str
    tile: str

    @property
    def index(self) -> str:
        """The ``system:index`` built from these parts."""
        return f"{self.datatake_start}_{self.sensing_start}_T{self.tile}"


@dataclass(frozen=True, slots=True)
class ImageCandidate:
    """An image of the right datatake and tile, with its footprint as GeoJSON."""

    key: ImageKey
    footprint: Mapping[str, Any] = field(hash=False)


def parse_image_index(index: str) -> ImageKey | None:
    """Return the parts of a ``system:index``, or None if it has another form."""
    match = _IMAGE_INDEX.fullmatch(index)
    return ImageKey(*match.groups()) if match else None


def read_image_key(scene: Scene) -> ImageKey:
    """Return the key of the image of ``scene``; raise InvalidField if an id does not have ESA's form."""
    datatake_start = _read_time(scene, "datatake", _DATATAKE_ID, scene.datatake_id)
    sensing_start = _read_time(scene, "datastrip", _DATASTRIP_ID, scene.datastrip_id)
    return ImageKey(datatake_start, sensing_start, scene.tile)


def _read_time(scene: Scene, kind: str, form: re.Pattern[str], text: str) -> str:
    """Return the time in an id, checking that it is a valid date and time of day."""
    match = form.fullmatch(text)
    with suppress(ValueError):
        if match:
            datetime.strptime(match[1], "%Y%m%dT%H%M%S")
            return match[1]
    raise InvalidField(scene.id, f"s2:{kind}_id", f"{text!r:.80} is not a {kind}'s id")


def pair_images(
    scene: Scene,
    key: ImageKey,
    present: Mapping[str, Collection[str]],
    candidates: Sequence[ImageCandidate] | None = None,
) -> Pairing | None:
    """Return the images of ``scene``, or why they are not available yet, as the module's docstring explains.

    ``key`` is that of its own image, ``present`` has the indexes found in each collection that the images must be in.
    ``candidates`` are the images of the scene's datatake and tile, and of others, in one collection; None if they have
    not been requested yet. Without them, None is returned if no collection has the scene's own image.
    """
    lacking = [collection for collection, indexes in present.items() if key.index not in indexes]
    if present and not lacking:
        return EarthEngineImage((key.index,))
    if len(lacking) < len(present):
        return Waiting(f"{_have(lacking)} no image {key.index} yet")
    if candidates is None:
        return None
    datatake = (key.datatake_start, key.tile)
    same = [each for each in candidates if (each.key.datatake_start, each.key.tile) == datatake]
    if not same:
        return Waiting(f"{_have(present)} no image of datatake {key.datatake_start} for tile {key.tile} yet")
    return _pair_covering(scene, same, present)


def _pair_covering(
    scene: Scene, candidates: Sequence[ImageCandidate], present: Mapping[str, Collection[str]]
) -> Pairing:
    """Return the ``candidates``, images of one datatake and tile, that cover ``scene`` and are in all collections."""
    chosen, cover = _choose_covering(scene, candidates)
    if cover < NEEDED_COVER:
        key = candidates[0].key
        return Waiting(
            f"the images of datatake {key.datatake_start} for tile {key.tile} cover "
            f"{cover:.0%} of the item; the one with the rest is not there yet"
        )
    indexes = tuple(each.index for each in sorted(each.key for each in chosen))
    for collection, known in present.items():
        missing = [index for index in indexes if index not in known]
        if missing:
            return Waiting(f"{collection} has no image {' and '.join(missing)} yet")
    return EarthEngineImage(indexes)


def _have(collections: Collection[str]) -> str:
    return f"{' and '.join(collections)} {'has' if len(collections) == 1 else 'have'}"


def _choose_covering(
    scene: Scene, candidates: Sequence[ImageCandidate]
) -> tuple[list[ImageCandidate], float]:
    """Return the fewest candidates, largest cover first, and the share of the footprint that they cover."""
    uncovered = read_area(scene.footprint)
    footprint_area = uncovered.area
    if not footprint_area:
        return [], 0.0
    chosen: list[ImageCandidate] = []
    rest = {each.key: (each, read_area(each.footprint, uncovered.centroid.x)) for each in candidates}
    while rest:
        # Rounded, so that rounding errors do not decide between equal gains.
        gains = {
            key: round(area.intersection(uncovered).area / footprint_area, 4)
            for key, (_, area) in rest.items()
        }
        # The largest gain; among equal ones the earliest datastrip, so that runs agree.
        best = min(rest, key=lambda key: (-gains[key], key))
        if gains[best] < LEAST_GAIN:
            break
        candidate, area = rest.pop(best)
        uncovered = uncovered.difference(area)
        chosen.append(candidate)
    return chosen, 1 - uncovered.area / footprint_area
