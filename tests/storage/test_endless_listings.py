"""A listing whose tokens go round in a circle ends with an error."""

from __future__ import annotations

import contextlib
from itertools import cycle
from typing import Any

import pytest

from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.storage.s3 import PAGE_KEYS, DoubtfulAnswer, S3Store, check_page


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


@pytest.mark.slow
def test_tokens_that_go_round_are_noticed() -> None:
    store = S3Store("b", "a", CirclingClient(most=50))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        list(store.list_objects(""))


@pytest.mark.parametrize(("keys", "is_doubtful"), [(PAGE_KEYS, True), (PAGE_KEYS - 1, False)])
def test_a_full_page_that_does_not_say_whether_it_is_the_last_is_doubtful(
    keys: int, is_doubtful: bool
) -> None:
    page = {
        "Contents": [{"Key": f"a/{number}", "Size": 1} for number in range(keys)],
        "Name": "b",
        "KeyCount": keys,
    }
    doubt = pytest.raises(DoubtfulAnswer, match="complete") if is_doubtful else contextlib.nullcontext()
    with doubt:
        check_page(page, "a/")
    check_page({**page, "IsTruncated": False}, "a/")
