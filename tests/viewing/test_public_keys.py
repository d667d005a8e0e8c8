"""Which keys of a store are public: what publishing writes, and nothing that lies beside it."""

from __future__ import annotations

import pytest

from pc_cloudmask.viewing.server import is_public_key

FOLDER = "sentinel-2-l2a-cloudmask/22K/22KFV/2018/S2B_X"


@pytest.mark.parametrize("name", ["S2B_X.json", "cloudmask-0123456789abcdef.tif"])
def test_what_publishing_writes_is_public(name: str) -> None:
    assert is_public_key(f"{FOLDER}/{name}")


@pytest.mark.parametrize("name", ["secret.json", "credentials.json", "S2B_Y.json"])
def test_other_documents_beside_an_item_are_not(name: str) -> None:
    assert not is_public_key(f"{FOLDER}/{name}")
