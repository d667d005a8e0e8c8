"""The version of pc-cloudmask, and how to install its optional parts."""

from __future__ import annotations

__version__ = "0.1.0"
#: Without ``--no-deps`` it would replace earthengine-api with a version from 2021.
HOW_TO_INSTALL_GEES2DOWNLOADER = (
    "pip install --no-deps git+https://github.com/cordmaur/GEES2Downloader "
    "&& pip install geojson ipywidgets matplotlib tqdm"
)


def tell_extra(extra: str) -> str:
    """Return how to install an extra of this distribution, which is not on a package index yet."""
    return f"install pc-cloudmask with its extra {extra}: in a checkout, pip install '.[{extra}]'"
