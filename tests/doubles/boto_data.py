"""botocore's data files, read once for all clients of a process and of those that are forked from it.

Parsing half a megabyte of JSON is five sixths of what making a client costs.
"""

from __future__ import annotations

from typing import Any

from botocore.loaders import Loader

_remembered: dict[Any, Any] = {}
_prepare = Loader.__init__


def _prepare_with_data(loader: Loader, *arguments: Any, **named: Any) -> None:
    _prepare(loader, *arguments, **named)
    loader._cache = _remembered


def _read() -> None:
    """Read what a client of S3 does, with no look at any setting."""
    loader = Loader()
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data_with_path(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", kind, api_version=None)


Loader.__init__ = _prepare_with_data
_read()
