"""GDAL's environment: options for reading assets, no credentials."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import rasterio
from rasterio.crs import CRS
from rasterio.env import PROJDataFinder, set_proj_data_search_path
from rasterio.errors import RasterioError
from rasterio.session import DummySession

from pc_cloudmask.contact import find_ca_bundle
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.text import make_printable

T = TypeVar("T")
#: How assets are read.
GDAL_OPTIONS: Final[dict[str, str | int]] = {
    # No side files: they are neither listed nor opened.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # The headers of all overviews of a COG of a full tile, in the request that opens it.
    "GDAL_INGESTED_BYTES_AT_OPEN": 65_536,
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff",
    "CPL_VSIL_CURL_USE_S3_REDIRECT": "NO",
    "GDAL_HTTP_NETRC": "NO",
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "PROJ_NETWORK": "OFF",
    # Megabytes of decoded blocks: two rows of a 10 m band. GDAL's default is a twentieth of the machine's memory.
    "GDAL_CACHEMAX": 32,
}
#: GDAL remembers a failure of a URL for the life of the process, unless told otherwise.
_ASK_AGAIN: Final = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/"}
#: What QGIS, PostGIS or conda set to their own projection database.
PROJECTION_VARIABLES: Final = ("PROJ_DATA", "PROJ_LIB")


def _use_own_projections() -> tuple[str, ...]:
    """Make a rasterio with its own database use it; return the variables that said otherwise.

    Each rasterio environment looks at them when it is entered, so they must be removed from this process.
    """
    own = PROJDataFinder().search_wheel()
    if own is None:
        return ()
    foreign = tuple(name for name in PROJECTION_VARIABLES if os.environ.pop(name, own) != own)
    set_proj_data_search_path(own)
    return foreign


#: Those of ``PROJECTION_VARIABLES`` that name another database and are ignored.
FOREIGN_PROJECTIONS: Final = _use_own_projections()


def check_projections() -> None:
    """Raise SettingsError if the projection database cannot be used; a wheel's own is, whatever ``PROJ_DATA`` says."""
    try:
        CRS.from_epsg(32606)
    except RasterioError as error:
        raise SettingsError(
            f"{' or '.join(PROJECTION_VARIABLES)} names another installation's database of projections, or none "
            f"is installed: unset it ({make_printable(error, 200)})"
        ) from None


class Unreadable(Exception):
    """Says why GDAL could not open or decode a raster, without signatures."""


def gdal_environment(**options: str | int) -> rasterio.Env:
    """Return an environment with ``options`` and without credentials, to be entered.

    Left to itself, rasterio creates a boto3 session for every dataset that it opens wherever ``AWS_*``
    variables are set: this takes 14 ms each, and passes the secrets to GDAL, which does not need them here.
    """
    return rasterio.Env(session=DummySession(), **options)


def read_asset(read: Callable[[], T], *, again: bool = False) -> T:
    """Call ``read`` in the environment for assets; ``again`` says that an earlier read of the URL failed.

    It raises Unreadable if GDAL fails, possibly for lack of memory, of which a damaged file may request any amount.
    """
    options = GDAL_OPTIONS | (_ASK_AGAIN if again else {})
    if (bundle := find_ca_bundle()) and Path(bundle).is_file():
        options["GDAL_CURL_CA_BUNDLE"] = bundle
    try:
        with gdal_environment(**options):
            return read()
    except RasterioError as error:
        problem = make_printable(error)
    # Outside the handler: GDAL's own error carries the signature and must not be chained.
    raise Unreadable(problem)
