"""What the processes do that ``test_kills`` kills; apart from it, so that none of them imports pytest."""

from __future__ import annotations

import os
import random
from datetime import timedelta
from multiprocessing.connection import Connection

from pc_cloudmask.catalog.check import check_catalog
from pc_cloudmask.catalog.publisher import Publisher
from pc_cloudmask.catalog.states import LEASE
from pc_cloudmask.errors import StoreRefused, StoreUnavailable
from pc_cloudmask.storage.stores import open_store
from tests.catalog.publications import CONTEXT, LESSER, NOW, build_publication, keys_of, product_id

POOL = [product_id(number) for number in range(16)] + [product_id(number, "22KFU") for number in range(8)]
#: Of each scene so many versions; those of the last scenes are withdrawn and published again.
VERSIONS = [
    [product_id(day, tile, made=f"20{year}0101T000000") for year in range(19, 19 + count)]
    for tile in ("22KFV", "22KFU")
    for day, count in enumerate((1, 2, 2, 3, 2, 3))
]
CHAOS_POOL = [item_id for scene in VERSIONS for item_id in scene]
FICKLE = {item_id for scene in (*VERSIONS[4:6], *VERSIONS[10:12]) for item_id in scene}
#: Beyond a lease's length, so that some take every other for dead at once, and some nobody.
SKEWS = (timedelta(0), LEASE + timedelta(hours=1), -LEASE - timedelta(hours=1), timedelta(hours=2))


def write_for_ever(environment: dict[str, str], url: str, seed: int, acknowledged: Connection) -> None:
    """Publish small batches until killed; tell of each that ``publish_catalogs`` has returned for."""
    os.environ.update(environment)
    store = open_store(url)
    acknowledged.send([])
    dice = random.Random(seed)
    while True:
        publisher = Publisher(store, CONTEXT, NOW)
        batch = [build_publication(item_id) for item_id in dice.sample(POOL, dice.randint(1, 3))]
        try:
            publisher.recover()
            for publication in batch:
                publisher.publish_item(publication)
            publisher.publish_catalogs([publication.keys for publication in batch])
        except StoreUnavailable:
            continue
        acknowledged.send([publication.keys.item_id for publication in batch])


def do_anything_for_ever(
    environment: dict[str, str], urls: dict[str, str], seed: int, told: Connection
) -> None:
    """Publish, withdraw, replay, repair until killed; tell of each batch that is linked."""
    os.environ.update(environment)
    dice = random.Random(seed)
    now = NOW + dice.choice(SKEWS)
    told.send([])
    for task in iter(
        lambda: dice.choices(("publish", "withdraw", "recover", "repair"), (12, 2, 3, 1))[0], ""
    ):
        os.environ["AWS_ENDPOINT_URL"] = urls["repair" if task == "repair" else "write"]
        try:
            store = open_store(urls["store"])
            publisher = Publisher(store, CONTEXT, now)
            if task == "repair":
                check_catalog(store, CONTEXT, repair=True, now=now)
                continue
            publisher.recover()
            if task == "withdraw":
                publisher.withdraw(map(keys_of, dice.sample(sorted(FICKLE), 1)), "gone")
            elif task == "publish":
                ids = dice.sample(CHAOS_POOL, dice.randint(1, 3))
                batch = [build_publication(item_id, dice.choice(["1", "2", LESSER])) for item_id in ids]
                for publication in batch:
                    publisher.publish_item(publication)
                publisher.publish_catalogs([publication.keys for publication in batch])
                told.send(ids)
        except (StoreUnavailable, StoreRefused):
            # Refused: the probe, some of whose answers were lost, took the store for one without conditions.
            continue
