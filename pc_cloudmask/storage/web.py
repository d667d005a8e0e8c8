"""A store that a web server shows."""

from __future__ import annotations

from pc_cloudmask.contact import Service
from pc_cloudmask.errors import StoreRefused, StoreUnavailable
from pc_cloudmask.storage.store import ObjectInfo, StoredObject, check_key
from pc_cloudmask.text import unsigned_href
from pc_cloudmask.web import Answer, Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy

#: As for a document; the mask of a full tile has less than a megabyte.
MAX_OBJECT_BYTES = 64 << 20
_DEADLINE_S = 120.0
_ATTEMPTS = 3


class HttpStore:
    """Objects below ``url``, to be read only: a public bucket, or ``cloudmask serve``."""

    def __init__(self, url: str, retry: RetryPolicy | None = None) -> None:
        self._url = url.rstrip("/")
        self._http = HttpClient(
            retry or RetryPolicy(attempts=_ATTEMPTS), needs_length=True, service=Service("store", "--store")
        )

    @property
    def url(self) -> str:
        """See ``ObjectReader``."""
        return self._url

    def read_object(self, key: str) -> StoredObject | None:
        """Return the object, or None if it is absent.

        Raises:
            StoreUnavailable: no answer.
            StoreRefused: an answer that is no object, or too large.
        """
        answer = self._get(key)
        return None if answer is None else StoredObject(key, answer.body, answer.headers.get("ETag", ""))

    def find_object(self, key: str) -> ObjectInfo | None:
        """Return the object's size, or None if it is absent; it is read, since few servers tell sizes alone."""
        answer = self._get(key)
        return None if answer is None else ObjectInfo(key, len(answer.body))

    def _get(self, key: str) -> Answer | None:
        url = f"{self._url}/{check_key(key)}"
        try:
            answer = self._http.get(url, deadline=Deadline(_DEADLINE_S), max_body_bytes=MAX_OBJECT_BYTES)
        except NoAnswer as error:
            raise StoreUnavailable(str(error)) from error
        except RefusedAnswer as error:
            raise StoreRefused(str(error)) from error
        if answer.status in {404, 410}:
            return None
        if answer.status == 403:
            # A bucket that may not be listed says so of a missing object, too.
            raise StoreRefused(f"{unsigned_href(url)}: HTTP 403: not public, or not there at all")
        if answer.status != 200:
            raise StoreRefused(f"{unsigned_href(url)}: HTTP {answer.status}: the catalog is not public there")
        return answer
