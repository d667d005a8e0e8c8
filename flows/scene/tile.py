"""The form of an MGRS tile's name."""

from __future__ import annotations

import re

TILE_FORM = re.compile(r"(?:0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]")
"""Zone, latitude band, and the 100 km square within them, such as ``22KFV``."""
