"""Report which parts of a setup work, and how to repair those that do not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from pc_cloudmask.contact import find_ca_bundle, find_proxy, hurry
from pc_cloudmask.errors import CloudmaskError
from pc_cloudmask.masking.earth_engine.pacing import check_account
from pc_cloudmask.masking.methods import METHODS, MaskMethod
from pc_cloudmask.runs.context import RunContext
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.settings import Settings
from pc_cloudmask.source.fields import ItemSearch
from pc_cloudmask.source.hrefs import PLANETARY_COMPUTER_HOSTS
from pc_cloudmask.source.stac_api import PlanetaryComputerSource
from pc_cloudmask.storage.store import ObjectStore
from pc_cloudmask.version import HOW_TO_INSTALL_GEES2DOWNLOADER, tell_extra
from pc_cloudmask.web import Deadline

EXTRAS = {
    **{
        method.extra: (method.package or method.extra, method.title)
        for method in METHODS.values()
        if method.extra
    },
    "dask": ("prefect_dask", "scenes on a Dask cluster"),
    "mosaic": ("odc.stac", "cloudless composites"),
    "serve": ("uvicorn", "the catalog over HTTP"),
    "index": ("stac_geoparquet", "the geoparquet mirror"),
    "maps": ("folium", "the example notebook's map"),
    "charts": ("matplotlib", "the charts of clear and stats --out, evaluate --picture"),
}
#: A person is waiting for the answer; a run may take minutes.
_PATIENCE_S = 20.0
#: If nothing answers, the command ends within five seconds, including its start.
_FIRST_CONTACT_S = 2.5
#: For a server that accepts the connection and then takes long to answer.
_FIRST_ANSWER_S = 8.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; ``needed`` if the settings depend on it."""

    what: str
    works: bool
    needed: bool
    detail: str

    @property
    def verdict(self) -> str:
        """``ok``, ``broken`` or ``absent``."""
        return "ok" if self.works else "broken" if self.needed else "absent"


def examine(context: RunContext) -> Iterator[Finding]:
    """Yield findings in order, each as soon as it is known; only the store's own probe writes anything.

    Checks that ask a server or import heavy modules run in parallel.
    """
    settings = context.settings
    methods = [METHODS[name] for name in settings.ladder]
    hurry(_FIRST_CONTACT_S, _FIRST_ANSWER_S)
    looks = list(_list_services(context, methods))
    # Only the methods in use: asking PyTorch for its devices takes seconds.
    for method in methods:
        checks = method.list_checks(settings.network).items()
        looks += [_Look(f"{method.name} {name}", True, look) for name, look in checks]
    for each in looks:
        each.begin()
    yield Finding("settings", True, True, f"method {', '.join(settings.ladder)}, {settings.workers} workers")
    yield from _examine_environment(settings)
    yield from (each.wait() for each in looks)
    is_chosen = settings.downloader == "gees2downloader"
    yield _module("geeS2downloader", "geeS2downloader", is_chosen, HOW_TO_INSTALL_GEES2DOWNLOADER)
    for extra, (module, purpose) in EXTRAS.items():
        needed = extra in {*(method.extra for method in methods), settings.runner}
        yield _module(f"extra {extra}", module, needed, f"{purpose}: {tell_extra(extra)}")


def _list_services(context: RunContext, methods: Sequence[MaskMethod]) -> Iterator[_Look]:
    """Yield checks of remote services: the store, the APIs, the token service, Earth Engine."""
    settings = context.settings
    yield _Look("store", True, lambda: _describe_store(context.store))
    yield _Look("source", True, lambda: _ask_source(settings))
    if settings.second_api:
        yield _Look("second api", True, lambda: _ask_second(context))
    if urlsplit(settings.stac_api_url).hostname in PLANETARY_COMPUTER_HOSTS:
        yield _Look("tokens", True, _ask_for_token)
    needs_earth_engine = any(method.needs_earth_engine for method in methods)
    yield _Look("earth engine", needs_earth_engine, lambda: _ask_earth_engine(context))


@dataclass(frozen=True)
class _Look:
    """One check that may take time, in a daemon thread, which does not keep the program from ending."""

    what: str
    needed: bool
    look: Callable[[], str]
    found: Future[str] = field(default_factory=Future)
    deadline: Deadline = field(default_factory=lambda: Deadline(_PATIENCE_S))

    def begin(self) -> None:
        """Start the check in its own thread."""
        Thread(target=self._run, daemon=True).start()

    def wait(self) -> Finding:
        """Return the result, or that there was none in time."""
        wait([self.found], max(0.0, self.deadline.remaining_s()))
        if self.found.done():
            return _try(self.what, self.needed, self.found.result)
        text = f"not known within {_PATIENCE_S:.0f} s: try again later"
        return Finding(self.what, False, self.needed, text)

    def _run(self) -> None:
        try:
            self.found.set_result(self.look())
        except Exception as error:
            self.found.set_exception(error)


def _examine_environment(settings: Settings) -> Iterator[Finding]:
    """Yield settings of other programs in the environment: which are used, and which are ignored."""
    yield _try("projections", True, _describe_projections)
    yield _try("certificates", True, lambda: find_ca_bundle() or "those that come with this program")
    proxies = {find_proxy(url) for url in (settings.stac_api_url, settings.earthengine_url)} - {None}
    yield Finding(
        "proxy", True, False, ", ".join(sorted(map(str, proxies))) or "none: servers are asked directly"
    )
    netrc = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    yield Finding("netrc", True, False, f"{netrc} is there, and not read" if netrc.exists() else "none")


def _describe_projections() -> str:
    from pc_cloudmask.raster.gdal import FOREIGN_PROJECTIONS, check_projections  # noqa: PLC0415 - as below

    check_projections()
    return f"rasterio's own; passed over: {', '.join(FOREIGN_PROJECTIONS) or 'none'}"


def _try(what: str, needed: bool, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, needed, look())
    except CloudmaskError as error:
        return Finding(what, False, needed, str(error))


def _module(what: str, module: str, needed: bool, mend: str) -> Finding:
    try:
        present = find_spec(module) is not None
    except ModuleNotFoundError:
        present = False
    return Finding(what, present, needed, "installed" if present else mend)


def _describe_store(store: ObjectStore) -> str:
    """Probe the store; say where it is, and whether several writers may use it."""
    capabilities = store.probe_capabilities()
    if capabilities.create_only and capabilities.compare_and_swap:
        return f"{store.url}: conditional writes, so any number of writers"
    return f"{store.url}: no conditional writes: one writer, with CLOUDMASK_SINGLE_WRITER=true"


def _ask_for_token() -> str:
    from pc_cloudmask.source.assets import check_tokens  # noqa: PLC0415 - heavy: others begin meanwhile

    return f"{check_tokens(_PATIENCE_S)} gives tokens for assets"


def _ask_earth_engine(context: RunContext) -> str:
    settings = context.settings
    # Before the client is imported.
    check_account(settings.earthengine_project, settings.earthengine_url, settings.earthengine_credentials)
    session = context.session
    session.start()
    return f"project {session.project} at {session.url}"


def _ask_source(settings: Settings) -> str:
    source = PlanetaryComputerSource(settings.stac_api_url, settings.collection, _PATIENCE_S)
    return f"{settings.stac_api_url} {_ask_for_item(source)}"


def _ask_second(context: RunContext) -> str:
    return f"{context.settings.second_api} {_ask_for_item(context.second)}" if context.second else ""


def _ask_for_item(source: ItemSearch) -> str:
    items = list(source.find_items(SceneQuery(tiles=("22KFV",), datetime="2018-12", limit=1)))
    return "answers" + ("" if items else ", with no item for 22KFV in 2018-12")
