"""What opens URLs and accounts, kept out of the records that libraries and we log."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from flows.hrefs import unsigned_href
from flows.printable import make_lines_printable
from flows.stac.item_hrefs import strip_signatures
from flows.stac.item_reader import Item

__all__ = ["keep_signatures_out_of_logs", "unsign_item", "unsigned_href"]

logger = logging.getLogger(__name__)

#: Characters of a line in the log.
LONGEST_LINE = 8000
#: Loggers, with all below them, whose records hold URLs, headers or texts from outside.
_LOGGERS = frozenset(
    {"flows", "prefect", "distributed", "urllib3", "requests", "httpx", "httpcore", "botocore", "boto3"}
    | {"google", "google_auth_httplib2", "googleapiclient", "ee", "rasterio", "pystac", "pystac_client"}
    | {"planetary_computer", "asyncio", "py"}
)


def unsign_item(item: Item) -> Item:
    """Return a copy of ``item`` without what opens its hrefs: each source does so once, and nobody after it.

    Raises:
        InvalidField: ``item`` is no JSON object.
    """
    unsigned = strip_signatures(item)
    if unsigned != item:
        _tell_of_signatures()
    return unsigned


@cache
def _tell_of_signatures() -> None:
    """Say it once: a source that signs hrefs signs all of them."""
    logger.info(
        "hrefs of this source lose users, fragments and query parameters that may be secret; who reads "
        "those assets brings the right to do so"
    )


def keep_signatures_out_of_logs() -> None:
    """Make every record of ``_LOGGERS`` printable as it is made, whichever handler will write it.

    Prefect's handlers, which send records to its server, have formats of their own. Doing so twice
    changes nothing.
    """
    build = logging.getLogRecordFactory()
    if getattr(build, "is_printable", False):
        return

    def build_printable(*args: Any, **named: Any) -> logging.LogRecord:
        record = build(*args, **named)
        if record.name.partition(".")[0] in _LOGGERS:
            _make_printable(record)
        return record

    build_printable.is_printable = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(build_printable)


def _make_printable(record: logging.LogRecord) -> None:
    """Rewrite message and traceback of ``record``; logging itself reports one that has no message."""
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):
        return
    record.msg, record.args = make_lines_printable(message, LONGEST_LINE), None
    if record.exc_info and record.exc_info[0] is not None:
        # Formatters take this text where it is there.
        record.exc_text = make_lines_printable(
            logging.Formatter().formatException(record.exc_info), LONGEST_LINE
        )
