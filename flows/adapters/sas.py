"""Tokens that open the Planetary Computer's private blobs for an hour."""

from __future__ import annotations

import time
import warnings
from threading import Lock
from typing import Final
from urllib.parse import urlsplit

import orjson

from flows.adapters.http_retry import Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy
from flows.adapters.signatures import unsigned_href
from flows.errors import AssetRefused, AssetUnavailable

with warnings.catch_warnings():
    # The SDK configures pydantic in the way of its first version.
    warnings.simplefilter("ignore", DeprecationWarning)
    from planetary_computer import sas
    from planetary_computer.settings import Settings
    from planetary_computer.utils import parse_blob_url

TOKEN_DEADLINE_S = 60.0
"""The SDK's own request has no time-out, and retries for minutes."""
_MIN_VALIDITY_S = 120.0
"""More than the minute below which the SDK asks for a token itself, without a time-out."""
_RENEWAL_INTERVAL_S = 30.0
"""A refusal of a younger token is not the token's age: threads that fail together renew it once."""
_MAX_TOKEN_BYTES = 1 << 16

_lock: Final = Lock()
_fetched_at: Final[dict[str, float]] = {}


def sign_href(href: str) -> str:
    """``href`` with a token, if it is a private blob of the Planetary Computer's; others as they are.

    Tokens are kept in the SDK's own cache. ``PC_SDK_SAS_URL`` and ``PC_SDK_SUBSCRIPTION_KEY`` keep
    their meaning.

    Raises:
        AssetUnavailable: no token within a minute.
        AssetRefused: the service does not know the container, or refuses us.
    """
    return _sign(href, renew=False)


def renew_href(href: str) -> str:
    """Like ``sign_href``, with a token fetched anew unless the present one is seconds old."""
    return _sign(href, renew=True)


def _sign(href: str, *, renew: bool) -> str:
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
            sas.TOKEN_CACHE[url] = _fetch_token(url, href)
            _fetched_at[url] = time.monotonic()
    return str(sas.sign_url(href))


def _fetch_token(url: str, href: str) -> sas.SASToken:
    """A token from the service; texts name the blob, not the token."""
    blob = unsigned_href(href)
    key = Settings.get().subscription_key
    http = HttpClient(RetryPolicy(attempts=4), {"Ocp-Apim-Subscription-Key": key} if key else None)
    try:
        answer = http.get(url, deadline=Deadline(TOKEN_DEADLINE_S), max_body_bytes=_MAX_TOKEN_BYTES)
    except NoAnswer as error:
        raise AssetUnavailable(f"{blob}: no token: {error}") from error
    except RefusedAnswer as error:
        raise AssetRefused(f"{blob}: no token: {error}; check PC_SDK_SAS_URL") from error
    if answer.status in {401, 403}:
        raise AssetRefused(f"{blob}: no token: HTTP {answer.status}; check PC_SDK_SUBSCRIPTION_KEY")
    if answer.status != 200:
        raise AssetRefused(
            f"{blob}: no token: HTTP {answer.status}; not a container of the Planetary Computer"
        )
    try:
        return sas.SASToken(**orjson.loads(answer.body))
    except (orjson.JSONDecodeError, TypeError, ValueError):
        # Not chained: the text of a validation error shows the body, which may hold a token.
        problem = f"{blob}: no token: {unsigned_href(url)} answered something else; check PC_SDK_SAS_URL"
    raise AssetUnavailable(problem)
