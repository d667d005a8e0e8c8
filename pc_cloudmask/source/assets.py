"""The pixels behind an asset's href."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar
from urllib.parse import urlsplit

import numpy as np
import orjson
from numpy.typing import NDArray

from pc_cloudmask.contact import Service
from pc_cloudmask.errors import AssetDenied, AssetError, AssetMissing, AssetRefused, AssetUnavailable
from pc_cloudmask.raster.gdal import Unreadable, read_asset
from pc_cloudmask.raster.read import (
    CHUNK_BYTES,
    MAGIC,
    ResamplingName,
    TooManyDirectories,
    Unsuitable,
    check_directories,
    read_raster,
)
from pc_cloudmask.scene.grid import Grid
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS, HrefRules
from pc_cloudmask.text import LOOPBACK_HOSTS, unsigned_href
from pc_cloudmask.web import (
    Answer,
    BodyTooLarge,
    Deadline,
    ForeignRedirect,
    HttpClient,
    NoAnswer,
    RefusedAnswer,
    RetryPolicy,
)

logger = logging.getLogger(__name__)
T = TypeVar("T", bound=np.generic)
Sign = Callable[[str], str]
_PROBE_DEADLINE_S = 60.0
_REMEMBERED_PROBES = 1024
#: What is wrong if a server answers a request for part of a TIFF with one of these.
_REFUSALS = {
    200: "the server sends no byte ranges",
    401: "access denied (HTTP 401); a token of that container is needed",
    403: "access denied (HTTP 403); a token of that container is needed",
    404: "not there (HTTP 404); the product may have been issued again",
    409: "not public (HTTP 409); it is read with a token of the Planetary Computer",
    410: "not there (HTTP 410); the product may have been issued again",
}


class AssetReader:
    """Reads single-band COGs onto grids; safe to share between threads.

    ``sign`` returns a URL for an unsigned href that can be read now; ``renew`` does so with a fresh token and is tried
    once after a 403. Signed hrefs are never kept outside this object or logged. ``HrefRules`` say what may be read.
    """

    def __init__(
        self,
        sign: Sign | None = None,
        local_root: Path | None = None,
        *,
        renew: Sign | None = None,
        hosts: frozenset[str] = PLANETARY_COMPUTER_HOSTS,
        allow_loopback: bool = False,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._sign = sign or str
        self._renew = renew
        self._rules = HrefRules(hosts, allow_loopback, local_root)
        self._http = HttpClient(retry or RetryPolicy(attempts=4), service=Service("assets at"))
        #: By URL: the signed URL whose server has proven to hold a TIFF. Then: URLs whose transfers broke off.
        self._probed: dict[str, str] = {}
        self._failed: set[str] = set()

    def read_band(
        self,
        href: str,
        grid: Grid,
        *,
        resampling: ResamplingName,
        item_id: str,
        stated: Sequence[Grid] = (),
    ) -> NDArray[np.generic]:
        """Read the asset's pixels on ``grid``, which may be a window of the item's grid.

        ``stated`` are the grids that the item gives for the asset; a file without a CRS must lie on one of them.

        Returns:
            ``(height, width)`` of the asset's own dtype (uint8, uint16 or int16). Pixels outside the asset hold its
            no-data value, or 0 if it declares none. Finer pixels are resampled to the grid by ``nearest`` or by the
            ``average`` of the valid ones, using overviews where they fit.

        Raises:
            AssetUnavailable: no answer, 429, 5xx, or a transfer that broke off.
            AssetMissing: it does not exist or access is refused.
            AssetDenied: no token, because the key is not accepted.
            AssetRefused: it is not allowed, or is not a raster that fits the grid.
        """
        return self.read(
            href, lambda name: read_raster(name, grid, resampling, 1, stated)[0], item_id=item_id
        )

    def find_readable(self, href: str, *, item_id: str) -> str:
        """Return the name by which GDAL can open the asset now: a path, or a signed URL behind ``/vsicurl/``.

        For callers that resample pixels themselves. They must open it with ``driver="GTiff"``, and neither keep nor
        show the name, which may contain a signature. Raises as ``read_band``.
        """
        with _named(item_id):
            return self._find_name(self._rules.find_tiff(href))

    def read(self, href: str, read: Callable[[str], NDArray[T]], *, item_id: str) -> NDArray[T]:
        """Return the result of ``read`` for the name by which GDAL can open the asset; raise as ``read_band``."""
        with _named(item_id):
            location = self._rules.find_tiff(href)
            name = self._find_name(location)
            shown = location if isinstance(location, Path) else unsigned_href(location)
            try:
                return read_asset(lambda: read(name), again=location in self._failed)
            except Unsuitable as error:
                raise AssetRefused(f"{shown}: {error}") from error
            except Unreadable as error:
                if isinstance(location, Path):  # such as a file that is still being written
                    raise AssetMissing(f"{shown}: not a GeoTIFF that can be read: {error}") from error
                self._probed.pop(location, None)
                self._failed.add(location)
                raise AssetUnavailable(f"{shown}: the transfer or the decoding failed: {error}") from error

    def _find_name(self, location: str | Path) -> str:
        if not isinstance(location, Path):
            return f"/vsicurl/{self._find_signed(location)}"
        try:
            with location.open("rb") as file:

                def read(offset: int) -> bytes:
                    file.seek(offset)
                    return file.read(CHUNK_BYTES)

                _check_tiff(read, location)
        except OSError as error:
            raise AssetMissing(f"{location}: {error.strerror or error}") from error
        return str(location)

    def _find_signed(self, url: str) -> str:
        """Return the signed URL after checking that the server holds a TIFF and supports ranges.

        GDAL follows redirects and reports statuses only as text, so the server is asked first.
        """
        signed, shown = self._sign(url), unsigned_href(url)
        if self._probed.get(url) == signed:
            return signed
        answer = self._probe(signed)
        if answer.status in {401, 403} and self._renew is not None:
            logger.info("%s: HTTP %d, trying once more with a new token", shown, answer.status)
            signed = self._renew(url)
            answer = self._probe(signed)
        if answer.status != 206:
            raise AssetMissing(f"{shown}: {_REFUSALS.get(answer.status, f'HTTP {answer.status}')}")
        _check_tiff(lambda offset: self._probe(signed, offset).body if offset else answer.body, shown)
        if len(self._probed) >= _REMEMBERED_PROBES:
            self._probed.clear()
        self._probed[url] = signed
        return signed

    def _probe(self, signed: str, offset: int = 0) -> Answer:
        headers = {"Range": f"bytes={offset}-{offset + CHUNK_BYTES - 1}", "Accept-Encoding": "identity"}
        try:
            return self._http.get(
                signed, deadline=Deadline(_PROBE_DEADLINE_S), max_body_bytes=CHUNK_BYTES, headers=headers
            )
        except NoAnswer as error:
            raise AssetUnavailable(str(error)) from None
        except ForeignRedirect as error:  # such as a network's sign-in page
            raise AssetMissing(str(error)) from None
        except BodyTooLarge:
            raise AssetMissing(f"{unsigned_href(signed)}: {_REFUSALS[200]}") from None


@contextmanager
def _named(item_id: str) -> Iterator[None]:
    """Add the item's id to errors raised inside."""
    try:
        yield
    except AssetError as error:
        raise type(error)(f"item {item_id}: {error}") from error


def _check_tiff(read: Callable[[int], bytes], shown: object) -> None:
    """Check that a file is a TIFF whose directories GDAL can read quickly; ``read`` returns bytes from an offset on.

    Raises:
        AssetMissing: there is no content yet: no bytes, or only preallocated space.
        AssetRefused: it is no such file.
    """
    start = read(0)[:4]
    if start not in MAGIC:
        if not start.strip(b"\0"):
            raise AssetMissing(f"{shown}: not a TIFF: nothing is written there yet")
        raise AssetRefused(f"{shown}: not a TIFF")
    try:
        check_directories(read)
    except (OverflowError, TooManyDirectories) as error:
        raise AssetRefused(f"{shown}: {error}") from error


with warnings.catch_warnings():
    # The SDK configures pydantic in the style of version 1.
    warnings.simplefilter("ignore", DeprecationWarning)
    from planetary_computer import sas
    from planetary_computer.settings import Settings
    from planetary_computer.utils import parse_blob_url
#: The SDK's own request has no time-out, and retries for minutes.
TOKEN_DEADLINE_S = 60.0
#: More attempts than fit into the deadline.
_TOKEN_ATTEMPTS = 20
#: More than the minute below which the SDK requests a token itself, without a time-out.
_MIN_VALIDITY_S = 120.0
#: If a younger token is refused, its age is not the reason: threads that fail together renew it only once.
_RENEWAL_INTERVAL_S = 30.0
_MAX_TOKEN_BYTES = 1 << 16
_lock: Final = Lock()
_fetched_at: Final[dict[str, float]] = {}
#: By token URL, when and why a request last ran into its deadline; requests soon after fail at once.
_gave_up: Final[dict[str, tuple[float, str]]] = {}
#: Sentinel-2's container belongs to the Planetary Computer, whatever the token service says about it.
_OWN_HOST = "sentinel2l2a01.blob.core.windows.net"
_OWN_CONTAINER = "/sentinel2l2a01/sentinel2-l2"
#: What the service says in a 403 that is not about the key.
_USED_UP = re.compile(rb"quota|rate limit|thrott", re.IGNORECASE)


def sign_href(href: str, *, renew: bool = False) -> str:
    """Return ``href`` with a token if it is a private blob of the Planetary Computer; otherwise unchanged.

    With ``renew``, the token is a fresh one unless the present one is only seconds old. Tokens are kept in the SDK's
    own cache. ``PC_SDK_SAS_URL`` and ``PC_SDK_SUBSCRIPTION_KEY`` have their usual meaning.

    Raises:
        AssetUnavailable: no token within a minute, or the service says that it does not know the container.
        AssetDenied: it does not accept the key.
        AssetMissing: it refuses access to a container that is not known to be the Planetary Computer's.
        AssetRefused: the URL is not that of a blob.
    """
    parts = urlsplit(href)
    if not parts.netloc.endswith(sas.BLOB_STORAGE_DOMAIN) or parts.query:
        return href
    container, _, blob = parts.path.lstrip("/").partition("/")
    if not container or not blob:
        raise AssetRefused(f"{unsigned_href(href)}: names no blob in a container")
    account, container = parse_blob_url(parts)
    with _lock:
        url = f"{Settings.get().sas_url}/{account}/{container}"
        token = sas.TOKEN_CACHE.get(url)
        age_s = time.monotonic() - _fetched_at.get(url, float("-inf"))
        if token is None or token.ttl() < _MIN_VALIDITY_S or (renew and age_s > _RENEWAL_INTERVAL_S):
            gave_up_at, why = _gave_up.get(url, (float("-inf"), ""))
            if time.monotonic() - gave_up_at < _RENEWAL_INTERVAL_S:
                raise AssetUnavailable(f"{unsigned_href(href)}: no token: {why}")
            sas.TOKEN_CACHE[url] = _fetch_token(url, href)
            _fetched_at[url] = time.monotonic()
    return str(sas.sign_url(href))


#: ``sign_href`` with a fresh token, unless the present one is only seconds old.
renew_href = partial(sign_href, renew=True)


def check_tokens(patience_s: float) -> str:
    """Fetch a token for Sentinel-2's container within ``patience_s``, or raise, and return the service's URL."""
    service = str(Settings.get().sas_url)
    _fetch_token(f"{service}{_OWN_CONTAINER}", f"https://{_OWN_HOST}/", patience_s)
    return unsigned_href(service)


def _fetch_token(url: str, href: str, deadline_s: float | None = None) -> sas.SASToken:
    """Fetch a token from the service; error texts name the blob, not the token."""
    blob = unsigned_href(href)
    key = Settings.get().subscription_key
    http = HttpClient(
        RetryPolicy(attempts=_TOKEN_ATTEMPTS),
        {"Ocp-Apim-Subscription-Key": key} if key else None,
        service=Service("token service", "PC_SDK_SAS_URL"),
    )
    try:
        answer = http.get(
            url, deadline=Deadline(deadline_s or TOKEN_DEADLINE_S), max_body_bytes=_MAX_TOKEN_BYTES
        )
    except NoAnswer as error:
        _gave_up[url] = (time.monotonic(), str(error))
        raise AssetUnavailable(f"{blob}: no token: {error}") from error
    except RefusedAnswer as error:
        raise AssetMissing(f"{blob}: no token: {error}; check PC_SDK_SAS_URL") from error
    problem = f"{blob}: no token: HTTP {answer.status}"
    if answer.status in {401, 403} and not _USED_UP.search(answer.body):
        refusal = AssetDenied if url.endswith(_OWN_CONTAINER) else AssetMissing
        raise refusal(f"{problem}; check PC_SDK_SUBSCRIPTION_KEY and PC_SDK_SAS_URL")
    if answer.status == 404:
        # The service occasionally says this about its own containers, too.
        raise AssetUnavailable(f"{problem}; the service is busy, or this is not a container that it knows")
    if answer.status != 200:
        raise AssetUnavailable(f"{problem}; its quota may be used up, or PC_SDK_SAS_URL leads elsewhere")
    try:
        return sas.SASToken(**orjson.loads(answer.body))
    except (orjson.JSONDecodeError, TypeError, ValueError):
        # Not chained: the text of a validation error includes the body, which may contain a token.
        problem = f"{blob}: no token: {unsigned_href(url)} answered something else; check PC_SDK_SAS_URL"
    raise AssetUnavailable(problem)


def build_reader(servers: Iterable[str], files: Path | None) -> AssetReader:
    """Return a reader for assets of the Planetary Computer, of those ``servers`` that are URLs, and below ``files``."""
    hosts = {
        urlsplit(url).hostname or "" for url in servers if url.lower().startswith(("http://", "https://"))
    }
    return AssetReader(
        sign_href,
        files,
        renew=renew_href,
        hosts=PLANETARY_COMPUTER_HOSTS | hosts,
        allow_loopback=not hosts.isdisjoint(LOOPBACK_HOSTS),
    )


def read_picture(
    reader: AssetReader, href: str, grid: Grid, *, item_id: str, stated: Sequence[Grid] = ()
) -> NDArray[np.uint8]:
    """Read an asset of three bands, such as ``visual``, on ``grid``; see ``read_band``.

    Returns:
        uint8 ``(height, width, 3)``, averaged using the file's overviews, black outside the file.
    """
    bands = reader.read(href, lambda name: read_raster(name, grid, "average", 3, stated), item_id=item_id)
    if bands.dtype != np.uint8:
        raise AssetRefused(f"item {item_id}: {unsigned_href(href)}: holds {bands.dtype}, not uint8")
    return np.ascontiguousarray(bands.transpose(1, 2, 0), dtype=np.uint8)
