"""Signatures in URLs: taken out of texts and logs."""

from __future__ import annotations

import logging
import re

_QUERY = re.compile(r"(https?://[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE)
_SIGNATURE = re.compile(r"\b(sig|se|st|skoid|sktid|ske|token)=[^&\s'\"<>]+", re.IGNORECASE)
_CREDENTIAL = re.compile(
    r"(\b(?:Authorization|Ocp-Apim-Subscription-Key|X-Amz-Security-Token)\W{1,6}|\bBearer\s+|\bSignature=)[^'\",}\r\n]+",
    re.IGNORECASE,
)

_CHATTY_LIBRARIES = ("urllib3", "rasterio")
"""Libraries that log the URLs they ask for, query included."""


def unsigned_href(href: str) -> str:
    """``href`` without query, fragment and user information: what errors and logs may show."""
    bare = re.split(r"[?#]", href, maxsplit=1)[0]
    return re.sub(r"(?<=://)[^/@]*@", "", bare)


def redact(text: str) -> str:
    """``text`` in one line without any URL's query, nor anything that looks like a SAS parameter."""
    return _SIGNATURE.sub(r"\1=***", _QUERY.sub(r"\1", " ".join(text.split())))


def redact_lines(text: str) -> str:
    """``text``, lines kept, without any URL's query, SAS parameters, or what authorises a request."""
    return _CREDENTIAL.sub(r"\1***", _SIGNATURE.sub(r"\1=***", _QUERY.sub(r"\1", text)))


class _RedactingFilter(logging.Filter):
    """Rewrites a record in place; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        redacted = redact_lines(message)
        if redacted != message:
            record.msg, record.args = redacted, None
        return True


_FILTER = _RedactingFilter()


def keep_signatures_out_of_logs() -> None:
    """Redact what the HTTP and raster libraries log, at every level. Doing so twice changes nothing."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in _CHATTY_LIBRARIES:
            logging.getLogger(name).addFilter(_FILTER)
