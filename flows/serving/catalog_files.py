"""The files of a local catalog as HTTP answers."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from flows.serving.public_files import is_browser_file, is_public_key
from flows.stac.asset_fields import COG_MEDIA_TYPE
from flows.stac.catalog import PARQUET_MEDIA_TYPE
from flows.stac.layout import ASSET_NAME_FORM, CATALOG_KEY
from flows.stac.links import GEOJSON_MEDIA_TYPE, JSON_MEDIA_TYPE

_MEDIA_TYPES = {".tif": COG_MEDIA_TYPE, ".parquet": PARQUET_MEDIA_TYPE}
#: Errors of a path that leads to nothing a reader may have, a loop of links among them. Any other one, of a
#: disk or of too many open files, says nothing about the file.
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM}
_KEEP, _ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"


class CatalogFiles(StaticFiles):
    """Answers with the public files below ``root`` and, where it has none of a name, those of ``browser``.

    A symbolic link is followed where it leads to a public file of the same folder. Ranges, ``If-Range``,
    ``HEAD`` and conditional requests are Starlette's.
    """

    def __init__(self, root: Path, browser: Path | None = None) -> None:
        super().__init__(directory=root)
        self._folders: list[tuple[Path, Callable[[str], bool]]] = [(root.resolve(), is_public_key)]
        if browser is not None:
            self._folders.append((browser.resolve(), is_browser_file))

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return path and status of a file; no status where there is none that the public may see.

        Raises:
            OSError: it cannot be said whether there is one.
        """
        for folder, is_public in self._folders:
            if not is_public(path):
                continue
            found = Path(os.path.realpath(folder / path))
            if not (found.is_relative_to(folder) and is_public(found.relative_to(folder).as_posix())):
                continue
            try:
                return str(found), found.stat()
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
        return "", None

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,  # noqa: ARG002 - Starlette asks for others in its HTML mode only
    ) -> Response:
        """The answer that holds the file, or says that the reader's copy is good.

        Raises:
            OSError: the file cannot be read.
        """
        path = Path(full_path)
        response = _read_document(path) if path.suffix == ".json" else _open_file(path, stat_result)
        response.headers["cache-control"] = _KEEP if ASSET_NAME_FORM.fullmatch(path.name) else _ASK_AGAIN
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


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
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return FileResponse(path, media_type=_MEDIA_TYPES.get(path.suffix), stat_result=status)
