"""What a run was asked to do, in plain values that Prefect may show and store."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flows.errors import SettingsError
from flows.scene.query import SceneQuery, build_query
from flows.settings import Settings, read_settings


class IngestRequest(BaseModel):
    """The arguments of ``ingest``: which scenes, and what differs from the environment's settings.

    Nothing secret belongs here: it becomes the parameters of a flow run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bbox: str | None = None
    intersects: Path | None = None
    tiles: tuple[str, ...] = ()
    datetime: str | None = None
    ids: tuple[str, ...] = ()
    items: str | None = None
    limit: int | None = None
    method: str | None = None
    compute: str | None = None
    store: str | None = None
    keep_inputs: bool | None = None
    force: bool = False
    config: Path | None = None
    now: dt.datetime | None = None

    def read_query(self) -> SceneQuery:
        """The query.

        Raises:
            SettingsError: text that is no bbox, interval, tile or geometry, or no criterion at all.
        """
        query = build_query(
            bbox=self.bbox,
            intersects=_read_file(self.intersects) if self.intersects else None,
            tiles=self.tiles,
            datetime=self.datetime,
            ids=self.ids,
            limit=self.limit,
        )
        if self.items is None and query.is_open:
            raise SettingsError("name what to look for: --tile, --bbox, --intersects, --ids or --items")
        return query

    def read_settings(self) -> Settings:
        """The environment's settings with this request's own.

        Raises:
            SettingsError: a value that cannot be used.
        """
        return read_settings(
            self.config,
            method=self.method,
            compute=self.compute,
            store=self.store,
            keep_inputs=self.keep_inputs,
        )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"--intersects: {path} cannot be read: {error.strerror}") from error
