"""STAC Browser, built once by npm into the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess  # nosec
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from pc_cloudmask.errors import SettingsError
from pc_cloudmask.settings import find_cache_folder
from pc_cloudmask.text import make_printable

_SCRIPT = "build.sh"
#: A wheel has the recipe next to this module, a checkout where deployments have it.
_RECIPES = (Path(__file__).with_name("stac-browser"), Path(__file__).parents[2] / "deploy" / "stac-browser")
_WITHOUT = "serve works without it, with a page of its own"


def find_build() -> Path | None:
    """Return the folder of our own build, which need not be there; None without a recipe or a cache folder.

    Its name follows from the recipe, so a changed recipe leads to a new build.
    """
    cache, recipe = find_cache_folder(), _find_recipe()
    if cache is None or recipe is None:
        return None
    digest = sha256(b"".join(path.read_bytes() for path in sorted(recipe.iterdir()))).hexdigest()
    return cache / f"stac-browser-{digest[:8]}"


def build_browser(folder: Path | None, tell: Callable[[str], None]) -> Path:
    """Return the folder with a built STAC Browser: ``folder``, by default our own; it is built if nothing is there.

    ``tell`` is called before that begins: it takes minutes. npm's output goes to stderr.

    Raises:
        SettingsError: npm is not there, or could not build it.
    """
    target = folder or find_build()
    recipe = _find_recipe()
    if target is None or recipe is None:
        missing = (
            "its recipe is not part of this installation" if recipe is None else "you have no home folder"
        )
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
    _build(recipe / _SCRIPT, target)
    return target


def _find_recipe() -> Path | None:
    return next((each for each in _RECIPES if (each / _SCRIPT).is_file()), None)


def _build(script: Path, target: Path) -> None:
    """Build in a temporary folder of this process, renamed when it is complete.

    Raises:
        SettingsError: it could not be built.
    """
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    # SB_* options meant for some other deployment do not belong in a build that every catalog is served with.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SB_")}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(  # noqa: S603 # nosec
            ["sh", str(script), str(unfinished)],  # noqa: S607
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,
            check=True,
        )
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
