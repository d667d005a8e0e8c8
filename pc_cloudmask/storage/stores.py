"""The store that a URL names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from pc_cloudmask.contact import Service, find_ca_bundle
from pc_cloudmask.errors import SettingsError, StoreRefused
from pc_cloudmask.storage.local import LocalStore
from pc_cloudmask.storage.store import BucketPlace, ObjectReader, ObjectStore
from pc_cloudmask.storage.web import HttpStore
from pc_cloudmask.text import LOOPBACK_HOSTS, read_file_uri, unsigned_href
from pc_cloudmask.web import knock

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_s3.client import S3Client

    from pc_cloudmask.storage.s3 import S3Store


#: What may end the URL of a catalog: the name of its root document.
ROOT_DOCUMENT = "catalog.json"
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 60
#: Of the AWS configuration's settings, by their names there, where the user has none.
_DEFAULTS: Mapping[str, Any] = {
    "max_attempts": 5,
    "retry_mode": "standard",
    # Stores other than AWS need not know its newer checksums.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
#: What GDAL takes for true.
_YES = frozenset({"YES", "TRUE", "ON", "1"})
#: As many as ``CLOUDMASK_WORKERS`` may be.
_CONNECTIONS = 64
_BUCKET = Service("store", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE")


def open_store(url: str, *, read_only: bool = False) -> ObjectStore:
    """Return the store at ``url``: ``s3://bucket/prefix``, ``file:PATH`` or a directory. Nothing is written.

    With ``read_only`` a directory need not be writable.

    Raises:
        SettingsError: no such kind of URL.
        StoreRefused: a directory that may not be read or written, a bucket or credentials that are missing.
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
    """Return where the bucket of ``store`` is; None if it is no bucket.

    Raises:
        StoreRefused, StoreUnavailable: as ``open_store``.
    """
    if not store.url.startswith("s3://"):
        return None
    from pc_cloudmask.storage.s3 import S3Store  # noqa: PLC0415

    return replace(store.find_place(), requester_pays=_pays()) if isinstance(store, S3Store) else None


def open_reader(url: str) -> ObjectReader:
    """Return the store at ``url`` to be read only: what ``open_store`` opens, or an http(s) URL.

    The name of the catalog's root document may end it. A directory need not be writable.

    Raises:
        SettingsError: no such kind of URL; http to another machine.
        StoreRefused: a bucket or credentials that are missing.
        StoreUnavailable: the endpoint does not answer.
    """
    url = url.removesuffix(f"/{ROOT_DOCUMENT}").rstrip("/") or "/"
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
    """Return the absolute path of the directory that a path or a ``file:`` URI names.

    Raises:
        SettingsError: it names none.
    """
    try:
        path = read_file_uri(url)
    except ValueError as error:
        raise SettingsError(f"store {url}: {error}") from error
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no such user's home; a current directory that is gone
        raise SettingsError(f"store {path}: not a directory that can be found: {error}") from error


def _check_directory(root: Path, *, read_only: bool) -> None:
    folder = root.resolve()
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise StoreRefused(f"store {root}: {folder} is a file: name a directory")
    needed, what = (os.R_OK, "read") if read_only else (os.W_OK, "written")
    if not os.access(folder, needed | os.X_OK):
        raise StoreRefused(
            f"store {root}: {folder} cannot be {what}: give this user the right, or choose another store"
        )


def _build_bucket(url: str) -> S3Store:
    """Return the bucket, not asked yet: who may only read what is public may not list the rest."""
    # boto3 takes a third of a second to import: only who publishes into a bucket pays for it.
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
    """Return our defaults for what neither the environment nor ``configured``, the AWS configuration, says."""
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
    """Build a client as the ``AWS_*`` variables and the AWS configuration say; what they leave open has our defaults.

    Some variables are not boto3's own, but other programs': those of GDAL for public and for requester-pays
    buckets, the SDKs' ``AWS_REGION``, the certificates that every client here trusts.
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
        # Elsewhere no DNS name need exist for each bucket.
        path_style = config.merge(Config(s3={"addressing_style": "path"}))
        client = session.client("s3", config=path_style, verify=verify)
    if _pays():
        client.meta.events.register("before-call.s3", _pay)
    return client


def _pays() -> bool:
    """Return True if whoever sends a request is to pay for it."""
    return os.environ.get("AWS_REQUEST_PAYER", "").lower() == "requester"


def _pay(params: dict[str, Any], **_: Any) -> None:
    """Let a request say that we pay for it, in the bucket of someone who does not."""
    params["headers"]["x-amz-request-payer"] = "requester"
