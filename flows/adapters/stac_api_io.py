"""How pystac-client reaches a STAC API."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests import Request

from flows.adapters.http_retry import Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy
from flows.adapters.lenient_json import parse_json
from flows.adapters.signatures import unsigned_href
from flows.errors import SourceRefused, SourceUnavailable

logger = logging.getLogger(__name__)

MAX_PAGE_BYTES = 64 << 20
"""A page of 250 Sentinel-2 items has about 5 MB."""


class BoundedStacApiIO(StacApiIO):
    """Requests of one origin, each with a deadline, retries and a limit to its body.

    An API names its own next pages; they are followed only on the API's own scheme, host and port.
    """

    def __init__(self, url: str, deadline_s: float, retry: RetryPolicy | None = None) -> None:
        super().__init__()
        self._origin = urlsplit(url)[:2]
        self._deadline_s = deadline_s
        self._http = HttpClient(retry or RetryPolicy(attempts=20))

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The text of a JSON answer.

        Raises:
            SourceUnavailable: none within the deadline.
            SourceRefused: another origin, too large, not JSON, or not UTF-8.
            APIError: any other status than success, for pystac-client to make sense of.
        """
        method = (method or "GET").upper()
        shown = unsigned_href(href)
        if urlsplit(href)[:2] != self._origin:
            raise SourceRefused(f"the STAC API leads to {shown}, which is another server: not followed")
        body, query = (parameters, None) if method == "POST" else (None, parameters)
        request = Request(method, href, headers={"Accept": "application/json", **(headers or {})}, json=body)
        request.params = query or {}
        try:
            answer = self._http.request(request, Deadline(self._deadline_s), MAX_PAGE_BYTES)
        except NoAnswer as error:
            # The Planetary Computer's own time-out of 30 s, when it is busy or a search is large.
            hint = "; ask for a shorter time or a smaller area" if "HTTP 504" in str(error) else ""
            raise SourceUnavailable(f"STAC API {error}{hint}") from error
        except RefusedAnswer as error:
            raise SourceRefused(f"STAC API {error}") from error
        if answer.status != 200:
            failure = APIError(answer.body[:200].decode("utf-8", "replace"))
            failure.status_code = answer.status
            raise failure
        try:
            return answer.body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceRefused(f"STAC API {shown}: the answer is not UTF-8") from error

    def json_loads(self, txt: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """The object that a JSON text holds; nesting beyond 1024 levels is no JSON to orjson.

        Raises:
            SourceRefused: no JSON object of a STAC API.
        """
        try:
            document = parse_json(txt)
        except ValueError as error:
            looks = "a web page" if txt.lstrip()[:1] == "<" else f"not JSON ({error})"
            raise SourceRefused(f"STAC API: the answer is {looks}: check CLOUDMASK_STAC_API_URL") from error
        if isinstance(document, dict) and document.get("type") == "Catalog":
            _check_landing_page(document)
        elif not isinstance(document, dict) or not (
            "features" in document or document.get("type") == "Collection"
        ):
            # An error with status 200 would pass for an empty page.
            raise SourceRefused("STAC API: the answer is JSON but not STAC: check CLOUDMASK_STAC_API_URL")
        if not isinstance(document.get("features", []), list):
            raise SourceRefused("STAC API: a page holds no list of items")
        return document


def _check_landing_page(document: dict[str, Any]) -> None:
    """That a catalog is what an API with item search presents itself by."""
    conforms_to = document.get("conformsTo")
    if not isinstance(conforms_to, list) or not any("/item-search" in str(uri) for uri in conforms_to):
        raise SourceRefused(
            "STAC API: a catalog, but not of an API that searches items: check CLOUDMASK_STAC_API_URL; "
            "a static catalog is read with --items"
        )
