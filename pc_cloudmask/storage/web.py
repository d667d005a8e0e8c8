"""A read-only store behind a web server."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pc_cloudmask.contact import Service
from pc_cloudmask.errors import StoreRefused, StoreUnavailable
from pc_cloudmask.storage.store import ObjectInfo, ObjectPart, StoredObject, check_key
from pc_cloudmask.text import unsigned_href
from pc_cloudmask.web import Answer, Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy

#: The same as for a document; the mask of a full tile is smaller than a megabyte.
MAX_OBJECT_BYTES = 64 << 20
_DEADLINE_S = 120.0
_ATTEMPTS = 3
#: Of a partial answer, and of one for a range that begins after the object's end.
_CONTENT_RANGE = re.compile(
    r"bytes (?:\*|(?P<first>\d{1,18})-(?P<last>\d{1,18}))/(?P<size>\d{1,18})", re.ASCII
)


class HttpStore:
    """Read-only objects below ``url``: a public bucket, or ``cloudmask serve``."""

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
            StoreUnavailable: there is no answer.
            StoreRefused: the answer is not an object, or is too large.
        """
        answer = self._get(key)
        return None if answer is None else StoredObject(key, answer.body, answer.headers.get("ETag", ""))

    def find_object(self, key: str) -> ObjectInfo | None:
        """Return the object's size, or None if it is absent; the object is read, since few servers give sizes alone."""
        answer = self._get(key)
        return None if answer is None else ObjectInfo(key, len(answer.body))

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        """Return bytes of the object, or None if it is absent; a server without ranges sends all of them.

        Raises:
            StoreUnavailable: there is no answer, or not the one requested.
            StoreRefused: the answer is not an object, or is too large.
        """
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        answer = self._get(key, wanted)
        if answer is None:
            return None
        if answer.status == 200:
            return ObjectPart(answer.body[offset : offset + length], len(answer.body))
        told = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status == 416 and told:
            return ObjectPart(b"", int(told["size"]))
        if (
            not told
            or int(told["first"] or -1) != offset
            or int(told["last"]) + 1 - offset != len(answer.body)
        ):
            raise StoreUnavailable(f"{self._url}/{key}: not the range that was asked for: try again later")
        return ObjectPart(answer.body, int(told["size"]))

    def _get(self, key: str, headers: Mapping[str, str] | None = None) -> Answer | None:
        url = f"{self._url}/{check_key(key)}"
        try:
            answer = self._http.get(
                url, deadline=Deadline(_DEADLINE_S), max_body_bytes=MAX_OBJECT_BYTES, headers=headers
            )
        except NoAnswer as error:
            raise StoreUnavailable(str(error)) from error
        except RefusedAnswer as error:
            raise StoreRefused(str(error)) from error
        if answer.status in {404, 410}:
            return None
        if answer.status == 403:
            # A bucket that may not be listed gives this answer for a missing object, too.
            raise StoreRefused(f"{unsigned_href(url)}: HTTP 403: not public, or not there at all")
        if answer.status not in ({200, 206, 416} if headers else {200}):
            raise StoreRefused(f"{unsigned_href(url)}: HTTP {answer.status}: the catalog is not public there")
        return answer
