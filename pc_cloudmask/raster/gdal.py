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
    # No side files: neither listed nor opened.
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
    # Megabytes of decoded blocks: two rows of a band at 10 m. GDAL's default is a twentieth of the machine.
    "GDAL_CACHEMAX": 32,
}
#: GDAL remembers a failure of a URL as long as the process lives, unless told otherwise.
_ASK_AGAIN: Final = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/"}


#: What QGIS, PostGIS or conda set to their own database of projections.
PROJECTION_VARIABLES: Final = ("PROJ_DATA", "PROJ_LIB")


def _use_own_projections() -> tuple[str, ...]:
    """Let a rasterio that brings its own database use that; return the variables that said otherwise.

    Each environment of rasterio's looks at them when it is entered, so in this process they have to go.
    """
    own = PROJDataFinder().search_wheel()
    if own is None:
        return ()
    foreign = tuple(name for name in PROJECTION_VARIABLES if os.environ.pop(name, own) != own)
    set_proj_data_search_path(own)
    return foreign


#: Those of ``PROJECTION_VARIABLES`` that name another database and are passed over.
FOREIGN_PROJECTIONS: Final = _use_own_projections()


def check_projections() -> None:
    """Check that the database of projections can be used; that of a wheel is, whatever ``PROJ_DATA`` says.

    Raises:
        SettingsError: it cannot.
    """
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

    Left to itself, rasterio makes a session of boto3 for every dataset that it opens wherever ``AWS_*``
    variables are set: 14 ms each, and the secrets go to GDAL, which has no use for them here.
    """
    return rasterio.Env(session=DummySession(), **options)


def read_asset(read: Callable[[], T], *, again: bool = False) -> T:
    """Call ``read`` in the environment for assets; ``again`` says that a reading of the URL failed before.

    Raises:
        Unreadable: GDAL failed; be it for want of memory, for which a damaged file may ask without end.
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
