"""Lengths of time as users write them."""

from __future__ import annotations

import re
from datetime import timedelta

from flows.errors import SettingsError

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=31)


def parse_duration(text: str) -> timedelta:
    """The length that ``90s``, ``30m``, ``1h`` or ``1.5d`` names.

    Raises:
        SettingsError: it names none, or one that is shorter than a second or longer than a month.
    """
    match = _FORM.fullmatch(text.strip().lower())
    try:
        length = timedelta(**{_UNITS[match[2]]: float(match[1])}) if match else None
    except OverflowError:
        length = None
    if length is None or not SHORTEST <= length <= LONGEST:
        raise SettingsError(f"--every {text!r:.40}: write 30m, 1h or 1d; at least 1s, at most 31d")
    return length
