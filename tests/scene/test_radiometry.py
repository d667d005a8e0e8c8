"""Offsets of processing baselines."""

from __future__ import annotations

import pytest

from pc_cloudmask.scene.scene import reflectance_offset_dn


@pytest.mark.parametrize(
    ("baseline", "offset_dn"),
    [
        ("02.12", 0),
        ("03.01", 0),
        ("04.00", -1000),
        ("05.09", -1000),
        ("5.10", -1000),
        ("10.00", -1000),
        ("", 0),
    ],
)
def test_offset(baseline: str, offset_dn: int):
    assert reflectance_offset_dn(baseline) == offset_dn
