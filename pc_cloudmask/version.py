"""The version of pc-cloudmask."""

from __future__ import annotations

__version__ = "0.1.0"


def tell_extra(extra: str) -> str:
    """Return how to install an extra of this distribution, which is on no index yet."""
    return f"install pc-cloudmask with its extra {extra}: in a checkout, pip install '.[{extra}]'"
