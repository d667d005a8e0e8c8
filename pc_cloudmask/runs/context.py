"""Create adapters from settings: the only place that selects them, and refuses assets that readers cannot reach."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc_cloudmask.contact import find_limit, hurry
from pc_cloudmask.errors import EngineUnavailable, SettingsError, Unreachable
from pc_cloudmask.masking.classes import MaskParameters
from pc_cloudmask.masking.methods import METHODS, MaskEngine, NetworkOptions
from pc_cloudmask.runs.budget import EecuMeter, build_workload_tag
from pc_cloudmask.runs.candidate import Ladder
from pc_cloudmask.runs.runners import Pipeline, has_earth_engine
from pc_cloudmask.scene.query import SceneQuery
from pc_cloudmask.settings import Settings, read_clock
from pc_cloudmask.source.fields import Item, SceneSource
from pc_cloudmask.storage.store import BucketPlace, ObjectStore

if TYPE_CHECKING:
    from pc_cloudmask.catalog.publisher import Publisher
    from pc_cloudmask.masking.earth_engine.session import EarthEngineSession, PixelDownloader
    from pc_cloudmask.runs.push import TopicPush
    from pc_cloudmask.runs.request import RunRequest
    from pc_cloudmask.source.assets import AssetReader
    from pc_cloudmask.source.fields import ItemSearch


class RunContext:
    """The adapters of one run, each created on first use: a dry run never opens Earth Engine.

    ``items`` is the value of ``--items``: a file, folder, URL or static catalog in place of a search. ``now`` is when
    the run began; ``begun`` is the same in terms of ``time.time``, because a worker's context is created later. With
    ``read_only`` the store need not be writable.
    """

    def __init__(
        self,
        settings: Settings,
        items: str | None = None,
        now: datetime | None = None,
        begun: float | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self.settings = settings
        self.items = items
        self.now = now or read_clock()
        self._begun = time.time() if begun is None else begun
        self._read_only = read_only
        self.pipeline = Pipeline(settings)

    @classmethod
    def of(cls, request: RunRequest, *, read_only: bool = False) -> RunContext:
        """Read the settings and open the adapters of the run that ``request`` asks for."""
        return cls(request.read_settings(), request.items, request.now, read_only=read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as constructor arguments: another process creates its own adapters, once for all its scenes."""
        return share_context, (self.settings, self.items, self.now, self._begun, find_limit())

    def read_time(self) -> datetime:
        """Return ``now``, when the run began, plus the time that has passed since."""
        return self.now + timedelta(seconds=max(0.0, time.time() - self._begun))

    @cached_property
    def source(self) -> SceneSource:
        """Where items come from: ``items`` if given, else a search of the source API."""
        if self.items is not None:
            from pc_cloudmask.source.item_files import ItemFilesSource

            return ItemFilesSource(self.items)
        from pc_cloudmask.source.stac_api import PlanetaryComputerSource

        return PlanetaryComputerSource(self.settings.stac_api_url, self.settings.collection)

    @cached_property
    def second(self) -> ItemSearch | None:
        """The second STAC API, with which scenes are compared; None if the settings name none."""
        from pc_cloudmask.source.stac_api import SecondApi

        settings = self.settings
        return SecondApi(settings.second_api, settings.second_collection) if settings.second_api else None

    @cached_property
    def store(self) -> ObjectStore:
        """The store that the settings name."""
        from pc_cloudmask.storage.stores import open_store

        return open_store(self.settings.store, read_only=self._read_only)

    @cached_property
    def bucket(self) -> BucketPlace | None:
        """The bucket that items name next to their hrefs; None for a folder, or where no setting asks for it."""
        from pc_cloudmask.storage.stores import find_bucket

        return find_bucket(self.store) if self.settings.alternate else None

    @cached_property
    def publisher(self) -> Publisher:
        """Writes items and catalogs into the store."""
        from pc_cloudmask.catalog.fields import CatalogContext
        from pc_cloudmask.catalog.publisher import Publisher

        context = CatalogContext(self.settings.public_url)
        single_writer = self.settings.single_writer
        publisher = Publisher(
            self.store, context, self.now, single_writer=single_writer, clock=self.read_time
        )
        publisher.tell_time, publisher.push = read_clock, self.push
        return publisher

    @cached_property
    def push(self) -> TopicPush | None:
        """Sends events of the change feed to the topic in the settings, if there is one."""
        from pc_cloudmask.runs.push import TopicPush

        return TopicPush(self.settings.sns_topic) if self.settings.sns_topic else None

    @cached_property
    def reader(self) -> AssetReader:
        """Reads the pixels of source assets, only from where the source may point to."""
        from pc_cloudmask.source.assets import AssetReader, renew_href, sign_href

        return AssetReader(
            sign_href,
            self.source.local_root,
            renew=renew_href,
            hosts=self.source.asset_hosts,
            allow_loopback=self.source.allow_loopback,
        )

    @cached_property
    def ladder(self) -> Ladder:
        """The methods in the settings, and how long to wait for the first one's input."""
        return Ladder(self.settings.ladder, timedelta(days=self.settings.patience))

    @cached_property
    def engines(self) -> Mapping[str, MaskEngine]:
        """The engines that derive masks, by method of the ladder."""
        return {name: METHODS[name].open_engine(self) for name in self.ladder.methods}

    def check_engines(self) -> None:
        """Check that each of several methods can be used: otherwise a broken one would go unnoticed for months.

        If Earth Engine just does not answer now, a run that can do without it continues.
        """
        _ = self.settings.rungs  # before any request: weights may be missing
        methods = [METHODS[name] for name in self.engines] if len(self.ladder.methods) > 1 else []
        if self.has_earth_engine and any(method.needs_earth_engine for method in methods):
            with suppress(EngineUnavailable, Unreachable):
                self.session.start()

    def read_parameters(self, method: str) -> MaskParameters:
        """Return the thresholds for masks by ``method``."""
        return self.settings.read_parameters(method)

    @property
    def network(self) -> NetworkOptions:
        """Where and how networks run."""
        return self.settings.network

    @property
    def compute(self) -> str:
        """``local`` or ``server``."""
        return self.settings.compute

    @property
    def has_earth_engine(self) -> bool:
        """True if an Earth Engine account is configured."""
        return has_earth_engine(self.settings)

    @cached_property
    def session(self) -> EarthEngineSession:
        """The Earth Engine session, opened at the first request."""
        from pc_cloudmask.masking.earth_engine.session import EarthEngineSession

        settings = self.settings
        session = EarthEngineSession(
            settings.earthengine_project, settings.earthengine_url, settings.earthengine_credentials
        )
        session.workload_tag = build_workload_tag(settings.workload_tag, self.now)
        session.keeps_profiles = settings.profile or settings.eecu_budget is not None
        return session

    @cached_property
    def meter(self) -> EecuMeter:
        """This run's cost as reported by Earth Engine, and this month's budget."""
        tag = build_workload_tag(self.settings.workload_tag, self.now)
        return EecuMeter(lambda: self.store, tag, self.now, self.settings.eecu_budget)

    def read_costs(self, scene_ids: Iterable[str]) -> None:
        """Ask for the cost of completed scenes, if the settings want it and Earth Engine was used."""
        session = self.__dict__.get("session")
        if session is not None and session.keeps_profiles:
            self.meter.read(session, scene_ids)

    @cached_property
    def downloader(self) -> PixelDownloader:
        """Downloads rasters from Earth Engine."""
        if self.settings.downloader == "gees2downloader":
            from pc_cloudmask.masking.earth_engine.download import Gees2Downloader

            return Gees2Downloader(self.session)
        from pc_cloudmask.masking.earth_engine.download import ComputePixels

        return ComputePixels(self.session)

    def local_folder(self, prefix: str) -> str | None:
        """Return the absolute path of a published folder, or None if the store is not a local directory."""
        from pc_cloudmask.storage.local import LocalStore

        return str(Path(self.store.url) / prefix) if isinstance(self.store, LocalStore) else None

    def read_transfer(self) -> dict[str, Any]:
        """Return statistics of the exchange with Earth Engine so far; empty if it was not used."""
        session = self.__dict__.get("session")
        if not session:
            return {}
        tag = {"workload_tag": session.workload_tag} if session.workload_tag else {}
        return {**session.statistics.as_json(), **tag, **self.meter.as_json()}


_SHARED: dict[tuple[str, str | None, datetime, float], RunContext] = {}


def share_context(
    settings: Settings, items: str | None, now: datetime, begun: float, limit_s: float | None
) -> RunContext:
    """Return this process's context of that run, keeping only the last run's; ``limit_s`` is passed to ``hurry``."""
    hurry(limit_s)
    key = (settings.model_dump_json(), items, now, begun)
    if key not in _SHARED:
        _SHARED.clear()
        _SHARED[key] = RunContext(settings, items, now, begun)
    return _SHARED[key]


def check_reachable(source: SceneSource, query: SceneQuery, settings: Settings, name: str | None) -> None:
    """Check that readers of the catalog can reach the assets of what ``query`` finds in the items at ``name``.

    Raises:
        SettingsError: an asset is a local file, but the store is a bucket or has a public URL. Files inside the store
            itself are allowed, since they are published with it.
    """
    from pc_cloudmask.storage.stores import read_path

    store, public_url = settings.store, settings.public_url
    in_bucket = store.startswith("s3:")
    if name is None or not (in_bucket or public_url) or source.local_root is None:
        return
    root = None if in_bucket else read_path(store).resolve()
    for item in source.find_items(query):
        for asset, path in _list_local_assets(item):
            if root is None or not path.is_relative_to(root):
                raise SettingsError(
                    f"--items {name}: asset {asset} of {item.get('id')!r:.100} is a local file, "
                    f"which readers of {public_url or store} cannot reach: upload it and give its https or "
                    "s3 href, or publish into a directory without CLOUDMASK_PUBLIC_URL"
                )


def _list_local_assets(item: Item) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of the item's assets that are local files."""
    assets = item.get("assets")
    for name, asset in assets.items() if isinstance(assets, dict) else ():
        href = asset.get("href") if isinstance(asset, dict) else None
        if isinstance(href, str) and href.startswith("/"):
            yield name, Path(href)
