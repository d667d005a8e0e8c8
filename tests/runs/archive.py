"""A year of an archive as its source tells of it: late, re-issued, changed and withdrawn products.

The truth is computed from the list of products alone, by none of the product's own code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tests.doubles.earth_engine.scenes import NORTH, SOUTH, Sun, build_ragged_scene, build_scene
from tests.doubles.earth_engine.sentinel2 import CLOUD_SCORE_PLUS, Sentinel2
from tests.masking.earth_engine.items import build_item

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
SHAPE_20M = (24, 31)
DAYS = 366
#: Calm days after the year: the last products are withdrawn half a year later, and three scans of everything,
#: which come once a month, must agree on it.
SETTLING_DAYS = range(DAYS, DAYS + 300)
REVISIT = 5 * DAY
API_COLLECTION = "https://planetarycomputer.microsoft.com/api/stac/v1/collections/sentinel-2-l2a"


@dataclass(frozen=True)
class Product:
    """One product of a scene: listed from ``listed`` to ``withdrawn``, other content from ``changed`` on.

    ``image`` is when Earth Engine has its image in full; for ``masked`` before that it has one whose cloud layers
    are masked in part or everywhere. ``score`` is when it has Cloud Score+ too, by default then.
    """

    image_of: Sentinel2
    item: dict[str, Any] = field(hash=False)
    taken: datetime
    listed: datetime
    image: datetime
    masked: timedelta = timedelta()
    withdrawn: datetime = NEVER
    changed: datetime = NEVER
    score: datetime | None = None

    @property
    def id(self) -> str:
        return str(self.item["id"])

    def is_listed(self, now: datetime) -> bool:
        return self.listed <= now < self.withdrawn

    def find_image(self, now: datetime) -> Sentinel2 | None:
        """What Earth Engine has of it at ``now``."""
        if self.image <= now:
            return self.image_of
        if self.image - self.masked <= now:
            cloud_valid = np.zeros(self.image_of.shape_10m, bool)
            cloud_valid[: cloud_valid.shape[0] // 2] = self.masked < 2 * DAY
            return replace(self.image_of, cloud_valid=cloud_valid)
        return None

    def read_item(self, now: datetime) -> dict[str, Any]:
        """The item as the source gives it at ``now``."""
        if now < self.changed:
            return self.item
        return {**self.item, "properties": {**self.item["properties"], "s2:mean_solar_zenith": 41.5}}


@dataclass(frozen=True)
class Archive:
    """Products in order of the day they were taken."""

    products: tuple[Product, ...]

    def list_items(self, now: datetime) -> list[dict[str, Any]]:
        """What the source lists at ``now``."""
        return [product.read_item(now) for product in self.products if product.is_listed(now)]

    def list_images(self, now: datetime) -> Iterator[tuple[Sentinel2, tuple[str, ...]]]:
        """What Earth Engine has at ``now``, each with the collections that it is not in."""
        for product in self.products:
            if (image := product.find_image(now)) is not None:
                is_scored = (product.score or product.image) <= now
                yield image, () if is_scored else (CLOUD_SCORE_PLUS,)

    def find_truth(self, now: datetime) -> dict[str, Product]:
        """What a catalog that knew everything at ``now`` would link, by id."""
        truth: dict[tuple[str, datetime], Product] = {}
        for product in self.products:
            if product.is_listed(now) and product.image <= now:
                scene = (product.image_of.tile, product.taken)
                if scene not in truth or truth[scene].id < product.id:
                    truth[scene] = product
        return {product.id: product for product in truth.values()}

    def find_superseded(self, now: datetime) -> set[str]:
        """Ids of the products that one of the truth took the place of."""
        scenes = {(each.image_of.tile, each.taken): each.id for each in self.find_truth(now).values()}
        return {
            each.id
            for each in self.products
            if each.image <= now and scenes.get((each.image_of.tile, each.taken), each.id) != each.id
        }

    def is_gone(self, item_id: str, now: datetime) -> bool:
        """Whether the source has taken that product back."""
        (product,) = (each for each in self.products if each.id == item_id)
        return product.withdrawn <= now

    def find_waiting(self, now: datetime) -> set[str]:
        """Ids that are listed and have no image."""
        return {each.id for each in self.products if each.is_listed(now) and each.image > now}


def build_archive(seed: int, days: int) -> Archive:
    """A year's archive of two tiles, each with all that a source may do to a product."""
    dice = random.Random(seed)
    products: list[Product] = []
    for sun in (Sun(38.5, SOUTH), Sun(217.3, NORTH)):
        image = build_ragged_scene(sun, seed, SHAPE_20M, wedge=False)
        taken = START + timedelta(hours=13, minutes=32, seconds=19)
        while taken < START + days * DAY:
            products += _build_scene(dice, image, taken)
            taken += REVISIT
    return Archive(tuple(sorted(products, key=lambda product: product.taken)))


def _build_scene(dice: random.Random, image: Sentinel2, taken: datetime) -> Iterator[Product]:
    moment = f"{taken:%Y%m%dT%H%M%S}"
    image = replace(image, datatake=moment, datastrip=moment)
    first = Product(
        image_of=image,
        item=_build_item(image, taken + timedelta(hours=7)),
        taken=taken,
        listed=taken + (40 * DAY if dice.random() < 0.08 else dice.uniform(0.2, 3) * DAY),
        image=dice.choices([taken + DAY, taken + 20 * DAY, NEVER], [92, 6, 2])[0],
        masked=dice.choices([timedelta(), DAY, 19 * DAY], [80, 10, 10])[0],
    )
    fate = dice.random()
    if fate < 0.08:
        reissued = taken + dice.uniform(30, 100) * DAY
        # For some days a source may list both.
        yield replace(first, withdrawn=reissued + dice.choice([0, 3]) * DAY)
        yield replace(first, item=_build_item(image, reissued), listed=reissued)
    elif fate < 0.14:
        yield replace(first, changed=taken + dice.uniform(4, 120) * DAY)
    elif fate < 0.24:
        yield replace(first, withdrawn=first.listed + dice.uniform(5, 150) * DAY)
    else:
        yield first


def _build_item(image: Sentinel2, made: datetime) -> dict[str, Any]:
    """The item of a product of that image, made at ``made``."""
    item = build_item(build_scene(image))
    item_id = f"{item['id'].rsplit('_', 1)[0]}_{made:%Y%m%dT%H%M%S}"
    link = {"rel": "self", "href": f"{API_COLLECTION}/items/{item_id}", "type": "application/geo+json"}
    return {**item, "id": item_id, "collection": "sentinel-2-l2a", "links": [link]}
