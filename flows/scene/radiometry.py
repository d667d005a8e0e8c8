"""Sentinel-2's digital numbers as reflectances."""

from __future__ import annotations

_FIRST_BASELINE_WITH_OFFSET = 4
_OFFSET_DN = -1000


def reflectance_offset_dn(processing_baseline: str) -> int:
    """What is added to a digital number before it is divided by 10000: -1000 or 0.

    From processing baseline 04.00 on, L2A products carry ``BOA_ADD_OFFSET`` so that dark noise does not
    become negative; Earth Engine's harmonised collection takes it out, the Planetary Computer does not.
    """
    major = processing_baseline.partition(".")[0]
    return _OFFSET_DN if major.isdecimal() and int(major) >= _FIRST_BASELINE_WITH_OFFSET else 0
