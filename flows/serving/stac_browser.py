"""A built STAC Browser."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from flows.errors import SettingsError
from flows.stac.layout import CATALOG_KEY, COLLECTION_KEY
from flows.stac.templates import root_title

HOW_TO_GET_IT = "docs/stac-browser.md says how to build it with npm"
HOSTED_URL = "https://radiantearth.github.io/stac-browser/#/external/"
"""Radiant Earth's own STAC Browser, which opens any catalog that allows it to."""
DEFAULT_FOLDER = Path("stac-browser")
CONFIG_NAME = "runtime-config.js"

_OPTIONS = {
    "catalogTitle": root_title(),
    # The path of a page is then none that the server must know, nor one of the catalog's own.
    "historyMode": "hash",
    "pathPrefix": "/",
    "socialSharing": [],
}
_SCRIPT = re.compile(r"""<script\b[^>]*\bsrc=["']?([^"'\s>]+)""", re.IGNORECASE)
_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StacBrowser:
    """STAC Browser as ``npm run build`` leaves it in ``folder``, made for the root of a server."""

    folder: Path
    index: str

    @property
    def page(self) -> str:
        """``index.html``, told to read our options first."""
        return _HEAD.sub(lambda head: f'{head[0]}<script src="/{CONFIG_NAME}"></script>', self.index, count=1)

    @staticmethod
    def config_script() -> str:
        """Options of a run, in the form that every version of STAC Browser takes; opens the collection."""
        options = json.dumps(_OPTIONS)
        return (
            f"window.STAC_BROWSER_CONFIG = Object.assign({options}, "
            f'{{catalogUrl: location.origin + "/{CATALOG_KEY}"}});\n'
            f'if (!location.hash) location.replace("#/{COLLECTION_KEY}");\n'
        )
