"""GDAL's environment."""

from __future__ import annotations

import rasterio
from rasterio.session import DummySession


def gdal_environment(**options: str | int) -> rasterio.Env:
    """An environment with ``options`` and without credentials, to be entered.

    Left to itself, rasterio makes a session of boto3 for every dataset that it opens wherever ``AWS_*``
    variables are set: 14 ms each, and the secrets go to GDAL, which has no use for them here.
    """
    return rasterio.Env(session=DummySession(), **options)
