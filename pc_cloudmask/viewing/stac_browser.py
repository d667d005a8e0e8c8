"""STAC Browser, built once by npm into the user's cache folder, and served."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess  # nosec
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import Template

from pc_cloudmask.catalog.fields import root_title
from pc_cloudmask.catalog.layout import CATALOG_KEY, COLLECTION_KEY
from pc_cloudmask.errors import SettingsError
from pc_cloudmask.settings import find_cache_folder
from pc_cloudmask.text import make_printable

_BUILD_SCRIPT = "build.sh"
#: A wheel has the recipe next to this module, a checkout has it with the deployments.
_RECIPES = (Path(__file__).with_name("stac-browser"), Path(__file__).parents[2] / "deploy" / "stac-browser")
_WITHOUT = "serve works without it, with a page of its own"


def find_build() -> Path | None:
    """Return the folder of our own build, which need not exist; None without a recipe or a cache folder.

    Its name follows from the recipe, so a changed recipe leads to a new build.
    """
    cache, recipe = find_cache_folder(), _find_recipe()
    if cache is None or recipe is None:
        return None
    digest = sha256(b"".join(path.read_bytes() for path in sorted(recipe.iterdir()))).hexdigest()
    return cache / f"stac-browser-{digest[:8]}"


def build_browser(folder: Path | None, tell: Callable[[str], None]) -> Path:
    """Return the folder with a built STAC Browser: ``folder``, by default our own; it is built if missing.

    ``tell`` is called before the build begins, which takes minutes. npm's output goes to stderr.

    Raises:
        SettingsError: npm is missing, or could not build it.
    """
    target = folder or find_build()
    recipe = _find_recipe()
    if target is None or recipe is None:
        missing = "you have no home folder" if recipe else "its recipe is not part of this installation"
        raise SettingsError(
            f"--build-browser: {missing}: name a built STAC Browser with --browser DIR; {_WITHOUT}"
        )
    if target.exists():
        return target
    if shutil.which("npm") is None:
        raise SettingsError(
            "--build-browser needs npm, which is not there: install Node.js 20 or newer (https://nodejs.org, "
            f"or your system's nodejs and npm); {_WITHOUT}"
        )
    tell(f"building STAC Browser into {target}, which takes some minutes")
    _build(recipe / _BUILD_SCRIPT, target)
    return target


def _find_recipe() -> Path | None:
    return next((each for each in _RECIPES if (each / _BUILD_SCRIPT).is_file()), None)


def _build(script: Path, target: Path) -> None:
    """Build in a temporary folder of this process, which is renamed when complete."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    # SB_* options meant for another deployment do not belong in a build that every catalog is served with.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SB_")}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        command = ["sh", str(script), str(unfinished)]
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=2, check=True)  # noqa: S603 # nosec
        if not target.exists():
            unfinished.rename(target)
    except subprocess.CalledProcessError as error:
        raise SettingsError(
            f"STAC Browser could not be built: npm's output above says why (exit status {error.returncode}); "
            f"try again, or {_WITHOUT}"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"{make_printable(str(target))}: {error.strerror}: name another with --browser DIR"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


HOW_TO_GET_IT = "cloudmask serve --build-browser builds it with npm, once"
#: Radiant Earth's own STAC Browser, which opens any catalog that allows it to.
HOSTED_URL = "https://radiantearth.github.io/stac-browser/#/external/"
CONFIG_NAME = "runtime-config.js"
_OPTIONS = {
    # The path of a page is then neither one that the server must know, nor one of the catalog's own.
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
_SCRIPT_TAG = re.compile(r"""<script\b[^>]*\bsrc=["']?([^"'\s>]+)""", re.IGNORECASE)
_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StacBrowser:
    """STAC Browser as ``npm run build`` leaves it in ``folder``, built for the root of a server."""

    folder: Path
    index: str

    @property
    def page(self) -> str:
        """Return ``index.html``, changed to read our options first."""
        return _HEAD.sub(lambda head: f'{head[0]}<script src="/{CONFIG_NAME}"></script>', self.index, count=1)

    @staticmethod
    def config_script() -> str:
        """Return a script with our options, in the form of every version of STAC Browser; it opens the collection."""
        return _CONFIG.substitute(
            options=json.dumps({"catalogTitle": root_title(), **_OPTIONS}),
            catalog=f"/{CATALOG_KEY}",
            start=f"#/{COLLECTION_KEY}",
        )


def find_stac_browser(folder: Path | None = None) -> StacBrowser | None:
    """Return the STAC Browser in ``folder``, by default in ``./stac-browser`` or our own build; None if there is none.

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
    scripts = _SCRIPT_TAG.findall(index)
    missing = [name for name in scripts if not (folder / name.removeprefix("./").lstrip("/")).is_file()]
    if missing or not scripts:
        raise SettingsError(
            f"{folder}: index.html loads {missing[0] if missing else 'no script'}, which is not there: "
            "build STAC Browser with its default pathPrefix, /"
        )
    return StacBrowser(folder, index)
