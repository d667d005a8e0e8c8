"""A listing whose tokens go round in a circle ends with an error."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.storage.s3 import S3Store


class CirclingClient:
    """Gives one page over and over, with two tokens in turn."""

    def __init__(self, most: int) -> None:
        self._tokens = cycle("AB")
        self._left = most

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        self._left -= 1
        assert self._left, "asked for too many pages"
        contents = [{"Key": "a/b.json", "Size": 1}]
        return {
            "IsTruncated": True,
            "NextContinuationToken": next(self._tokens),
            "Contents": contents,
            "Name": "b",
        }


def test_tokens_that_go_round_are_noticed() -> None:
    store = S3Store("b", "a", CirclingClient(most=50))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        list(store.list_objects(""))
