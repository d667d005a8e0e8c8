"""Open the store at a URL; a web server is a store for reading only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from pc_cloudmask.contact import Service, find_ca_bundle
from pc_cloudmask.errors import SettingsError, StoreRefused, StoreUnavailable
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import (
    BucketPlace,
    ObjectInfo,
    ObjectPart,
    ObjectReader,
    ObjectStore,
    StoredObject,
    check_key,
)
from pc_cloudmask.text import LOOPBACK_HOSTS, read_file_uri, unsigned_href
from pc_cloudmask.web import Answer, Deadline, HttpClient, NoAnswer, RefusedAnswer, RetryPolicy, knock

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_s3.client import S3Client

    from pc_cloudmask.storage.s3 import S3Store

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 60
#: Defaults for settings of the AWS configuration, by their names there, where the user has set none.
_DEFAULTS: Mapping[str, Any] = {
    "max_attempts": 5,
    "retry_mode": "standard",
    # Stores other than AWS may not support its newer checksums.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
#: What GDAL reads as true.
_YES = frozenset({"YES", "TRUE", "ON", "1"})
#: The largest value of ``CLOUDMASK_WORKERS``.
_CONNECTIONS = 64
_BUCKET = Service("store", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE")
#: Of a web server's object: the same as for a document; the mask of a full tile is smaller than a megabyte.
_MAX_OBJECT_BYTES = 64 << 20
_DEADLINE_S, _ATTEMPTS = 120.0, 3
#: Of a partial answer, and of one for a range that begins after the object's end.
_CONTENT_RANGE = re.compile(
    r"bytes (?:\*|(?P<first>\d{1,18})-(?P<last>\d{1,18}))/(?P<size>\d{1,18})", re.ASCII
)


def open_store(url: str, *, read_only: bool = False) -> ObjectStore:
    """Return the store at ``url``: ``s3://bucket/prefix``, ``file:PATH`` or a directory. Nothing is written.

    With ``read_only`` a directory need not be writable.

    Raises:
        SettingsError: the kind of URL is not supported.
        StoreRefused: a directory cannot be read or written, or a bucket or credentials are missing.
        StoreUnavailable: the endpoint does not answer.
    """
    if url.startswith("s3://"):
        store = _build_bucket(url)
        store.check_bucket()
        return store
    root = read_path(url)
    _check_directory(root, read_only=read_only)
    return LocalStore(root)


def find_bucket(store: ObjectStore) -> BucketPlace | None:
    """Return where the bucket of ``store`` is; None if it is no bucket. It raises what ``open_store`` raises."""
    if not store.url.startswith("s3://"):
        return None
    from pc_cloudmask.storage.s3 import S3Store  # noqa: PLC0415

    return replace(store.find_place(), requester_pays=_pays()) if isinstance(store, S3Store) else None


def open_reader(url: str) -> ObjectReader:
    """Return the store at ``url`` for reading only: anything that ``open_store`` opens, or an http(s) URL.

    The URL may end with the name of the catalog's root document. A directory need not be writable.

    Raises:
        SettingsError: the kind of URL is not supported, or it is http to another machine.
        StoreRefused: the URL of a bucket has another form, or the AWS configuration makes no client.
    """
    url = url.removesuffix("/catalog.json").rstrip("/") or "/"
    if url[:5].lower() == "file:" or "://" not in url:
        return LocalStore(read_path(url))
    parts = _split_url(url)
    if unsigned_href(url) != url:
        raise SettingsError(f"store {unsigned_href(url)}: name it without user, password, query or fragment")
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
        return HttpStore(url)
    if parts.scheme == "s3":
        return _build_bucket(url)
    raise SettingsError(f"store {unsigned_href(url)}: name a directory, s3://bucket/prefix or an https URL")


def _split_url(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"store {unsigned_href(url)}: not a URL") from error


def read_path(url: str) -> Path:
    """Return the absolute path of the directory that a path or a ``file:`` URI names, or raise ``SettingsError``."""
    try:
        path = read_file_uri(url)
    except ValueError as error:
        raise SettingsError(f"store {url}: {error}") from error
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no home of such a user, or the current directory is gone
        raise SettingsError(f"store {path}: not a directory that can be found: {error}") from error


def _check_directory(root: Path, *, read_only: bool) -> None:
    folder = root.resolve()
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise StoreRefused(f"store {root}: {folder} is a file: name a directory")
    needed, deed = (os.R_OK, "read") if read_only else (os.W_OK, "written")
    if not os.access(folder, needed | os.X_OK):
        raise StoreRefused(
            f"store {root}: {folder} cannot be {deed}: give this user the right, or choose another store"
        )


def _build_bucket(url: str) -> S3Store:
    """Return the bucket without a request: those who may only read public objects may not list them."""
    # boto3 takes a third of a second to import: only those who publish into a bucket pay for it.
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    from pc_cloudmask.storage.s3 import S3Store  # noqa: PLC0415

    parts = _split_url(url)
    if not parts.netloc or unsigned_href(url) != url or set("@:?#") & set(parts.netloc):
        raise StoreRefused(f"store {unsigned_href(url)}: write it as s3://bucket/prefix")
    try:
        client = _build_client()
    except (ValueError, BotoCoreError) as error:
        raise StoreRefused(
            f"store {url}: no client ({type(error).__name__}): "
            "look at AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and AWS_PROFILE"
        ) from error
    return S3Store(parts.netloc, parts.path, client)


def _build_config(configured: Mapping[str, Any]) -> Config:
    """Return our defaults for what neither the environment nor ``configured``, the AWS configuration, sets."""
    from botocore import UNSIGNED  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    defaults = {
        name: value
        for name, value in _DEFAULTS.items()
        if f"AWS_{name.upper()}" not in os.environ and name not in configured
    }
    names = {"max_attempts": "total_max_attempts", "retry_mode": "mode"}
    retries: Any = {names[name]: defaults.pop(name) for name in names.keys() & defaults.keys()}
    return Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
        retries=retries or None,
        signature_version=UNSIGNED if os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in _YES else None,
        **defaults,
    )


def _build_client() -> S3Client:
    """Build a client from the ``AWS_*`` variables, the AWS configuration and our defaults, in this order.

    Some variables are those of other programs than boto3: GDAL's for public and for requester-pays buckets, the SDKs'
    ``AWS_REGION``, the certificates that every client here trusts.
    """
    import boto3  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    core = botocore.session.Session()
    session = boto3.session.Session(
        botocore_session=core, region_name=core.get_config_variable("region") or os.environ.get("AWS_REGION")
    )
    config = _build_config(core.get_scoped_config())
    verify = core.get_config_variable("ca_bundle") or find_ca_bundle()
    core.register("before-send", lambda **sent: knock(sent["request"].url, _BUCKET, verify))
    client = session.client("s3", config=config, verify=verify)
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    chosen = (client.meta.config.s3 or {}).get("addressing_style")  # type: ignore[attr-defined]
    if not chosen and not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        # Elsewhere, buckets need not have a DNS name of their own.
        path_style = config.merge(Config(s3={"addressing_style": "path"}))
        client = session.client("s3", config=path_style, verify=verify)
    if _pays():
        payer = {"x-amz-request-payer": "requester"}
        client.meta.events.register("before-call.s3", lambda params, **_: params["headers"].update(payer))
    return client


def _pays() -> bool:
    """Return True if whoever sends a request is to pay for it, for buckets whose owner does not."""
    return os.environ.get("AWS_REQUEST_PAYER", "").lower() == "requester"


class HttpStore:
    """Read-only objects below ``url``: a public bucket, or ``cloudmask serve``."""

    def __init__(self, url: str, retry: RetryPolicy | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = HttpClient(
            retry or RetryPolicy(attempts=_ATTEMPTS), needs_length=True, service=Service("store", "--store")
        )

    def read_object(self, key: str) -> StoredObject | None:
        """See ``ObjectReader``."""
        answer = self._get(key)
        return None if answer is None else StoredObject(key, answer.body, answer.headers.get("ETag", ""))

    def find_object(self, key: str) -> ObjectInfo | None:
        """See ``ObjectReader``; the object is read, since few servers give sizes alone."""
        answer = self._get(key)
        return None if answer is None else ObjectInfo(key, len(answer.body))

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        """See ``ObjectReader``; a server without ranges sends all bytes."""
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        answer = self._get(key, wanted)
        if answer is None:
            return None
        if answer.status == 200:
            return ObjectPart(answer.body[offset : offset + length], len(answer.body))
        told = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status == 416 and told:
            return ObjectPart(b"", int(told["size"]))
        if (
            not told
            or int(told["first"] or -1) != offset
            or int(told["last"]) + 1 - offset != len(answer.body)
        ):
            raise StoreUnavailable(f"{self.url}/{key}: not the range that was asked for: try again later")
        return ObjectPart(answer.body, int(told["size"]))

    def _get(self, key: str, headers: Mapping[str, str] | None = None) -> Answer | None:
        url = f"{self.url}/{check_key(key)}"
        try:
            answer = self._http.get(
                url, deadline=Deadline(_DEADLINE_S), max_body_bytes=_MAX_OBJECT_BYTES, headers=headers
            )
        except NoAnswer as error:
            raise StoreUnavailable(str(error)) from error
        except RefusedAnswer as error:
            raise StoreRefused(str(error)) from error
        if answer.status in {404, 410}:
            return None
        if answer.status == 403:
            # A bucket that may not be listed gives this answer for a missing object, too.
            raise StoreRefused(f"{unsigned_href(url)}: HTTP 403: not public, or not there at all")
        if answer.status not in ({200, 206, 416} if headers else {200}):
            raise StoreRefused(f"{unsigned_href(url)}: HTTP {answer.status}: the catalog is not public there")
        return answer
