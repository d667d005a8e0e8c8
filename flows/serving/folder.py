"""The folder that is served."""

from __future__ import annotations

from pathlib import Path

from flows.adapters.local_store import LocalStore
from flows.adapters.stores import open_reader
from flows.errors import SettingsError
from flows.serving.stac_browser import HOSTED_URL
from flows.settings import Settings
from flows.stac.layout import CATALOG_KEY


def find_folder(settings: Settings) -> Path:
    """The store's directory, which holds a catalog.

    Raises:
        SettingsError: the store is a bucket, or no catalog is there.
    """
    if settings.store.startswith("s3://"):
        catalog = f"{settings.public_url or 'https://…'}/{CATALOG_KEY}"
        raise SettingsError(
            f"{settings.store} needs no serve: let others read the bucket (deploy/s3/cors.json) "
            f"and open {HOSTED_URL}{catalog}"
        )
    reader = open_reader(settings.store)
    if not isinstance(reader, LocalStore) or reader.find_object(CATALOG_KEY) is None:
        raise SettingsError(
            f"{reader.url}: no {CATALOG_KEY} there: name the catalog's folder with --store, "
            "or make one with cloudmask demo"
        )
    return reader.root
