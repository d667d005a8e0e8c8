"""A built STAC Browser."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

from pc_cloudmask.catalog.fields import root_title
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_KEY
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.viewing.browser_build import find_build

HOW_TO_GET_IT = "cloudmask serve --build-browser builds it with npm, once"
#: Radiant Earth's own STAC Browser, which opens any catalog that allows it to.
HOSTED_URL = "https://radiantearth.github.io/stac-browser/#/external/"
CONFIG_NAME = "runtime-config.js"
_OPTIONS = {
    # The path of a page is then none that the server must know, nor one of the catalog's own.
    "historyMode": "hash",
    "pathPrefix": "/",
    "socialSharing": [],
}
_CONFIG = Template("""\
window.STAC_BROWSER_CONFIG = Object.assign($options, {
  catalogUrl: location.origin + "$catalog",
  // Between two classes there is no third: blurred, a cloud next to its shadow would have a gap.
  getMapSourceOptions: (type, options, asset) =>
    asset && asset["classification:classes"] ? {...options, interpolate: false} : options,
});
if (!location.hash) location.replace("$start");
""")
_SCRIPT = re.compile(r"""<script\b[^>]*\bsrc=["']?([^"'\s>]+)""", re.IGNORECASE)
_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StacBrowser:
    """STAC Browser as ``npm run build`` leaves it in ``folder``, made for the root of a server."""

    folder: Path
    index: str

    @property
    def page(self) -> str:
        """Return ``index.html``, told to read our options first."""
        return _HEAD.sub(lambda head: f'{head[0]}<script src="/{CONFIG_NAME}"></script>', self.index, count=1)

    @staticmethod
    def config_script() -> str:
        """Return a script with our options, as every version of STAC Browser takes it; it opens the collection."""
        return _CONFIG.substitute(
            options=json.dumps({"catalogTitle": root_title(), **_OPTIONS}),
            catalog=f"/{CATALOG_KEY}",
            start=f"#/{COLLECTION_KEY}",
        )


def find_stac_browser(folder: Path | None = None) -> StacBrowser | None:
    """Return the STAC Browser in ``folder``, by default in ``./stac-browser`` or where we built it, None without any.

    Raises:
        SettingsError: ``folder`` holds no built STAC Browser, or one made for another path.
    """
    if folder is None:
        folders = [each for each in (Path("stac-browser"), find_build()) if each is not None]
        folder = next((each for each in folders if (each / "index.html").is_file()), None)
        if folder is None:
            return None
    try:
        index = (folder / "index.html").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{folder}: no built STAC Browser, which has an index.html; {HOW_TO_GET_IT}"
        ) from error
    scripts = _SCRIPT.findall(index)
    missing = [name for name in scripts if not (folder / name.removeprefix("./").lstrip("/")).is_file()]
    if missing or not scripts:
        raise SettingsError(
            f"{folder}: index.html loads {missing[0] if missing else 'no script'}, which is not there: "
            "build STAC Browser with its default pathPrefix, /"
        )
    return StacBrowser(folder, index)
