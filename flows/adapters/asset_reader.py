"""The pixels behind an asset's href."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from flows.adapters.band import Resampling, Unsuitable, read_band
from flows.adapters.gdal import Unreadable, read_asset
from flows.adapters.hosts import PLANETARY_COMPUTER_HOSTS, HrefRules
from flows.adapters.http_retry import (
    Answer,
    BodyTooLarge,
    Deadline,
    ForeignRedirect,
    HttpClient,
    NoAnswer,
    RetryPolicy,
)
from flows.adapters.signatures import keep_signatures_out_of_logs, unsigned_href
from flows.adapters.tiff_directories import CHUNK_BYTES, MAGIC, TooManyDirectories, check_directories
from flows.errors import AssetError, AssetRefused, AssetUnavailable
from flows.scene.grid import Grid

logger = logging.getLogger(__name__)

Sign = Callable[[str], str]

_PROBE_DEADLINE_S = 60.0
_REMEMBERED_PROBES = 1024


class AssetReader:
    """Reads single-band COGs onto grids; safe to share between threads.

    ``sign`` turns an unsigned href into one that can be read now; ``renew`` does so with a token
    fetched anew and is tried once after a 403. Signed hrefs are neither kept beyond this object nor
    logged. What may be read at all: ``flows.adapters.hosts.HrefRules``.
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
        self._sign = sign or _unchanged
        self._renew = renew
        self._rules = HrefRules(hosts, allow_loopback, local_root)
        self._http = HttpClient(retry or RetryPolicy(attempts=4))
        self._probed: OrderedDict[str, str] = OrderedDict()
        self._failed: set[str] = set()
        self._lock = Lock()
        keep_signatures_out_of_logs()

    def read_band(
        self, href: str, grid: Grid, *, resampling: Resampling, item_id: str
    ) -> NDArray[np.generic]:
        """The asset's pixels on ``grid``, which may be a window of the item's grid.

        Returns:
            ``(height, width)`` of the asset's own dtype (uint8, uint16 or int16). Pixels outside it
            hold its no-data value, 0 where it declares none. Finer pixels are brought to the grid's by
            ``nearest`` or by the ``average`` of the valid ones, through overviews where they fit.

        Raises:
            AssetUnavailable: no answer, 429, 5xx, or a transfer that broke off.
            AssetRefused: not allowed, not there, or not a raster that fits the grid.
        """
        try:
            location = self._rules.find_tiff(href)
            if isinstance(location, Path):
                return _read_file(location, grid, resampling)
            return self._read_url(location, grid, resampling)
        except AssetError as error:
            raise type(error)(f"item {item_id}: {error}") from error

    def find_readable(self, href: str, *, item_id: str) -> str:
        """The name by which GDAL may open the asset now: a path, or a signed URL behind ``/vsicurl/``.

        For readers that bring pixels onto a grid by other means than ``read_band``. They open it with
        ``driver="GTiff"``, and neither keep nor show the name: it may carry a signature.

        Raises:
            AssetUnavailable: no answer, 429, 5xx.
            AssetRefused: not allowed, not there, or not a TIFF.
        """
        try:
            location = self._rules.find_tiff(href)
            if isinstance(location, Path):
                _check_file(location)
                return str(location)
            return f"/vsicurl/{self._find_readable(location)}"
        except AssetError as error:
            raise type(error)(f"item {item_id}: {error}") from error

    def _read_url(self, url: str, grid: Grid, resampling: Resampling) -> NDArray[np.generic]:
        name = f"/vsicurl/{self._find_readable(url)}"
        try:
            return read_asset(lambda: read_band(name, grid, resampling), anew=self._has_failed(url))
        except Unsuitable as error:
            raise AssetRefused(f"{unsigned_href(url)}: {error}") from error
        except Unreadable as error:
            self._note_failure(url)
            raise AssetUnavailable(
                f"{unsigned_href(url)}: the transfer or the decoding failed: {error}"
            ) from error

    def _find_readable(self, url: str) -> str:
        """The signed URL, once the server has shown that it holds a TIFF and sends ranges of it.

        GDAL follows redirects and reports statuses as texts only, so this is asked of the server first.
        """
        signed = self._sign(url)
        if self._remembers(url, signed):
            return signed
        answer = self._probe(signed)
        if answer.status in {401, 403} and self._renew is not None:
            logger.info("%s: HTTP %d, trying once more with a new token", unsigned_href(url), answer.status)
            signed = self._renew(url)
            answer = self._probe(signed)
        _check_probe(url, answer)
        try:
            check_directories(lambda offset: self._probe(signed, offset).body if offset else answer.body)
        except TooManyDirectories as error:
            raise AssetRefused(f"{unsigned_href(url)}: {error}") from None
        self._remember(url, signed)
        return signed

    def _probe(self, signed: str, offset: int = 0) -> Answer:
        """What the server answers to a request for a part of the asset from ``offset``."""
        headers = {"Range": f"bytes={offset}-{offset + CHUNK_BYTES - 1}", "Accept-Encoding": "identity"}
        try:
            return self._http.get(
                signed, deadline=Deadline(_PROBE_DEADLINE_S), max_body_bytes=CHUNK_BYTES, headers=headers
            )
        except NoAnswer as error:
            raise AssetUnavailable(str(error)) from None
        except ForeignRedirect as error:
            raise AssetRefused(str(error)) from None
        except BodyTooLarge:
            raise AssetRefused(f"{unsigned_href(signed)}: the server sends no byte ranges") from None

    def _remembers(self, url: str, signed: str) -> bool:
        with self._lock:
            return self._probed.get(url) == signed

    def _remember(self, url: str, signed: str) -> None:
        with self._lock:
            self._probed[url] = signed
            while len(self._probed) > _REMEMBERED_PROBES:
                self._probed.popitem(last=False)

    def _has_failed(self, url: str) -> bool:
        with self._lock:
            return url in self._failed

    def _note_failure(self, url: str) -> None:
        with self._lock:
            self._probed.pop(url, None)
            self._failed.add(url)


def _unchanged(href: str) -> str:
    return href


def _read_file(path: Path, grid: Grid, resampling: Resampling) -> NDArray[np.generic]:
    _check_file(path)
    try:
        return read_asset(lambda: read_band(str(path), grid, resampling))
    except Unsuitable as error:
        raise AssetRefused(f"{path}: {error}") from error
    except Unreadable as error:
        raise AssetRefused(f"{path}: not a GeoTIFF that can be read: {error}") from error


def _check_file(path: Path) -> None:
    """See that GDAL will be done with the file's directories soon.

    Raises:
        AssetRefused: it will not, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:

            def read(offset: int) -> bytes:
                file.seek(offset)
                return file.read(CHUNK_BYTES)

            check_directories(read)
    except (OSError, OverflowError, TooManyDirectories) as error:
        raise AssetRefused(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _check_probe(url: str, answer: Answer) -> None:
    shown, status = unsigned_href(url), answer.status
    if status == 206 and answer.body[:4] in MAGIC:
        return
    if status == 206:
        raise AssetRefused(f"{shown}: not a TIFF")
    if status == 200:
        raise AssetRefused(f"{shown}: the server sends no byte ranges")
    if status in {401, 403}:
        raise AssetRefused(f"{shown}: access denied (HTTP {status}); a token of that container is needed")
    if status == 409:
        raise AssetRefused(
            f"{shown}: not public (HTTP 409); it is read with a token of the Planetary Computer"
        )
    if status in {404, 410}:
        raise AssetRefused(f"{shown}: not there (HTTP {status}); the product may have been issued anew")
    raise AssetRefused(f"{shown}: HTTP {status}")
