"""Hrefs that may be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.adapters.signatures import unsigned_href
from flows.errors import AssetRefused
from flows.loopback import LOOPBACK_HOSTS

PLANETARY_COMPUTER_HOSTS = frozenset(
    {"planetarycomputer.microsoft.com", "sentinel2l2a01.blob.core.windows.net"}
)
"""The Planetary Computer's API and its storage account of Sentinel-2 (``msft:storage_account`` of the
collection). No wildcard: anyone may open an account below ``blob.core.windows.net``."""

TIFF_SUFFIXES = (".tif", ".tiff")

_URL = re.compile(
    r"https?://[A-Za-z0-9.\-:\[\]]+/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
"""A URL that every parser reads alike: no user information, blank, backslash, control or other character."""

MAX_HREF_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class HrefRules:
    """The boundary that asset hrefs must pass.

    ``hosts``           names that https may reach, on its own port.
    ``allow_loopback``  whether this machine's own servers may be read: only where the source is one.
    ``local_root``      the folder local files may be read below; None: no local file at all.
    """

    hosts: frozenset[str] = PLANETARY_COMPUTER_HOSTS
    allow_loopback: bool = False
    local_root: Path | None = None

    def find_tiff(self, href: str) -> str | Path:
        """Where the GeoTIFF behind ``href`` is: a URL, or the path of a file.

        Raises:
            AssetRefused: it is none of: https to an allowed host, a server on loopback where that is
                allowed, a regular file below the local root. Texts name the rule, not the item.
        """
        if len(href) > MAX_HREF_LENGTH or not href.isprintable():
            raise AssetRefused(f"an href of {len(href)} characters, or with unprintable ones, is not read")
        location = self._check_url(href) if "://" in href else self._find_file(href)
        name = location.name if isinstance(location, Path) else urlsplit(location).path
        if not name.lower().endswith(TIFF_SUFFIXES):
            raise AssetRefused(f"{unsigned_href(href)}: only {' and '.join(TIFF_SUFFIXES)} files are read")
        return location

    def _check_url(self, href: str) -> str:
        shown = unsigned_href(href)
        if not _URL.fullmatch(href):
            raise AssetRefused(f"{shown}: not a plain http(s) URL")
        try:
            parts = urlsplit(href)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise AssetRefused(f"{shown}: not a plain http(s) URL") from error
        if host in LOOPBACK_HOSTS:
            if not self.allow_loopback:
                raise AssetRefused(f"{shown}: servers on loopback are read only for a source on loopback")
            return href
        if host not in self.hosts:
            raise AssetRefused(f"{shown}: host {host} is not one that assets are read from")
        if parts.scheme != "https" or port not in {None, 443}:
            raise AssetRefused(f"{shown}: assets of {host} are read through https on its own port only")
        return href

    def _find_file(self, href: str) -> Path:
        if self.local_root is None:
            raise AssetRefused(f"{href}: local files are read only for items that come from local files")
        path = Path(href)
        if not path.is_absolute() or href.startswith("/vsi"):
            raise AssetRefused(f"{href}: not an absolute path of a file")
        try:
            resolved = path.resolve(strict=True)
            inside = resolved.is_relative_to(self.local_root.resolve(strict=True))
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "a loop of links"
            raise AssetRefused(f"{href}: cannot be read: {reason}") from error
        if not inside:
            raise AssetRefused(
                f"{href}: leads out of {self.local_root}, below which the items' files are read"
            )
        if not resolved.is_file():
            raise AssetRefused(f"{href}: not a regular file")
        return resolved
