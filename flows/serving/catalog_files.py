"""The files of a local catalog as HTTP answers."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from flows.stac.asset_fields import COG_MEDIA_TYPE
from flows.stac.catalog import PARQUET_MEDIA_TYPE
from flows.stac.layout import ASSET_NAME_FORM, CATALOG_KEY
from flows.stac.links import GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE

_HIDDEN = (".", "_")
"""What names of private state, of probes and of temporary files begin with; no published one does."""
_MEDIA_TYPES = {".tif": COG_MEDIA_TYPE, ".parquet": PARQUET_MEDIA_TYPE}
_KEEP, _ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"


class CatalogFiles(StaticFiles):
    """Answers with the public files below ``root`` and, where it has none of a name, those of ``browser``.

    Symbolic links are followed while they stay inside. Ranges, ``If-Range``, ``HEAD`` and conditional
    requests are Starlette's.
    """

    def __init__(self, root: Path, browser: Path | None = None) -> None:
        super().__init__(directory=root)
        self._root = root.resolve()
        if browser is not None:
            self.all_directories.append(browser)

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Path and status of a file; no status where there is none that the public may see."""
        try:
            found, status = super().lookup_path(path)
        except PermissionError:
            return "", None
        return ("", None) if self._is_private(Path(found)) else (found, status)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,  # noqa: ARG002 - Starlette asks for others in its HTML mode only
    ) -> Response:
        """The answer that holds the file, or says that the reader's copy is good."""
        path = Path(full_path)
        try:
            response = _read_document(path) if path.suffix == ".json" else _open_file(path, stat_result)
        except OSError as error:
            raise HTTPException(404) from error
        response.headers["cache-control"] = _KEEP if ASSET_NAME_FORM.fullmatch(path.name) else _ASK_AGAIN
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response

    def _is_private(self, found: Path) -> bool:
        """Whether a file, its links resolved, is one of the store's that were not published."""
        return found.is_relative_to(self._root) and any(
            name.startswith(_HIDDEN) for name in found.relative_to(self._root).parts
        )


def _read_document(path: Path) -> Response:
    """A document whole: its file may be replaced between announcing its length and sending it."""
    body = path.read_bytes()
    is_item = path.stem == path.parent.name and path.name != CATALOG_KEY  # a store may be called catalog
    etag = hashlib.sha256(body).hexdigest()
    return Response(
        body, media_type=GEOJSON_MEDIA_TYPE if is_item else JSON_MEDIA_TYPE, headers={"etag": f'"{etag}"'}
    )


def _open_file(path: Path, status: os.stat_result) -> Response:
    if not os.access(path, os.R_OK):
        raise PermissionError
    return FileResponse(path, media_type=_MEDIA_TYPES.get(path.suffix), stat_result=status)
