"""An object store in an S3 bucket."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from flows.adapters.store_keys import check_key, check_prefix
from flows.errors import KeyExists, StoreRefused, StoreUnavailable, WriteConflict
from flows.ports import ObjectInfo, StoreCapabilities, StoredObject
from flows.stac.layout import PROBE_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_NOT_HELD = frozenset(
    {"412", "PreconditionFailed", "409", "ConditionalRequestConflict", "OperationAborted", "NoSuchKey"}
    | {"501", "NotImplemented"}
)
"""Answers to a condition that did not hold: AWS says 409 where a conditional write met another one
under way, 404 where the object of ``If-Match`` is gone; 501 is of stores that know no conditions."""
_PASSING = frozenset({"408", "429", "RequestTimeout", "SlowDown", "Throttling", "TooManyRequests"})
_PASSING_STATUSES = frozenset({408, 409, 429})
CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
SIGN_IN_ERRORS = (SSOError, TokenRetrievalError)
_SIGN_IN_AGAIN = "the sign-in has expired: sign in again ('aws sso login'), or set other credentials"
_IN_ANOTHER_REGION = "the bucket is in another region: set AWS_DEFAULT_REGION to its own"
_MENDED_BY = {
    # Codes of 400s and 301s; boto3 itself follows the bucket's region on AWS alone.
    "ExpiredToken": _SIGN_IN_AGAIN,
    "InvalidToken": _SIGN_IN_AGAIN,
    "AuthorizationHeaderMalformed": _IN_ANOTHER_REGION,
    "PermanentRedirect": _IN_ANOTHER_REGION,
    "IllegalLocationConstraintException": _IN_ANOTHER_REGION,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}
"""Answers that say themselves how they are mended."""
_PROBE_ATTEMPTS = 3
_CREATE_ATTEMPTS = 5
"""A create that lost to a writer whose object is gone again is tried anew, not for ever."""


class _EtagForm(Enum):
    """How a store wants the ETag of ``If-Match``."""

    QUOTED = "quoted"  # AWS S3, MinIO, R2, moto
    UNQUOTED = "unquoted"  # Ceph RGW: a quoted one is answered 412 for ever
    IGNORED = "ignored"  # localbucket, s3rver: no compare-and-swap


class S3Store:
    """Keys are those of a bucket below ``prefix``.

    Every write is one ``put_object``: some stores ignore conditions on multipart uploads. The
    client retries, so a conditional write may meet its own success: a refusal counts only when the
    stored bytes differ. One store may be used by many threads.
    """

    def __init__(self, bucket: str, prefix: str, client: S3Client) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self._client = client
        self._probe_lock = threading.Lock()
        self._probed: tuple[StoreCapabilities, _EtagForm] | None = None

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def check_bucket(self) -> None:
        """Nothing, where the bucket is there and may be listed.

        Raises:
            StoreRefused: no such bucket, no credentials, no right.
            StoreUnavailable: the endpoint does not answer.
        """
        with self._translated("the bucket"):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    def probe_capabilities(self) -> StoreCapabilities:
        return self._probe()[0]

    def read_object(self, key: str) -> StoredObject | None:
        with self._translated(key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
            return StoredObject(key, answer["Body"].read(), answer.get("ETag", ""))

    def find_object(self, key: str) -> ObjectInfo | None:
        with self._translated(key):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"])

    def create_object(self, key: str, body: bytes, media_type: str) -> None:
        condition = {"IfNoneMatch": "*"} if self.probe_capabilities().create_only else {}
        if not condition and self.find_object(key) is None:  # the best a single writer can do
            self._put(key, body, media_type)
            return
        for _ in range(_CREATE_ATTEMPTS):
            if condition and self._put(key, body, media_type, **condition):
                return
            stored = self.read_object(key)
            if stored is not None and stored.body == body:
                return
            if stored is not None:
                raise KeyExists(f"{key} exists in {self.url} with other content")
        raise StoreUnavailable(f"{key}: {self.url} refuses to create a key that is not there: try again")

    def write_object(self, key: str, body: bytes, media_type: str) -> None:
        self._put(key, body, media_type)

    def replace_object(self, key: str, body: bytes, media_type: str, etag: str) -> None:
        form = self._probe()[1]
        if form is _EtagForm.IGNORED:
            stored = self.read_object(key)  # the best a single writer can do
            if stored is None or stored.etag != etag:
                raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")
            self._put(key, body, media_type)
        elif not self._put(key, body, media_type, IfMatch=_spell(etag, form)):
            stored = self.read_object(key)
            if stored is None or stored.body != body:
                raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")

    def delete_object(self, key: str) -> None:
        with self._translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._pages(prefix):
            for entry in page.get("Contents", ()):
                yield ObjectInfo(
                    entry["Key"].removeprefix(self._prefix), entry["Size"], entry["LastModified"]
                )

    def list_folders(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix, Delimiter="/"):
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"].removeprefix(self._prefix + prefix).rstrip("/")

    def _pages(self, prefix: str, **options: Any) -> Iterator[Any]:
        name = self._prefix + check_prefix(prefix)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=name, **options
        )
        with self._translated(prefix):
            yield from pages

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _put(self, key: str, body: bytes, media_type: str, **condition: Any) -> bool:
        """Whether the write was done; False where the condition did not hold.

        Raises:
            StoreUnavailable: the outcome is unknown.
        """
        with self._translated(key):
            try:
                answer = self._client.put_object(
                    Bucket=self._bucket, Key=self._name(key), Body=body, ContentType=media_type, **condition
                )
            except ClientError as error:
                if condition and _code(error) in _NOT_HELD:
                    return False
                raise
        if answer.get("ETag"):
            return True
        # A 200 without an ETag is an unknown outcome: some proxies answer so to a broken upload.
        stored = self.read_object(key)
        if stored is None or stored.body != body:
            raise StoreUnavailable(
                f"{key}: {self.url} answered without an ETag and holds other bytes: try again"
            )
        return True

    def _probe(self) -> tuple[StoreCapabilities, _EtagForm]:
        with self._probe_lock:
            if self._probed is None:
                key = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
                try:
                    create_only = self._probe_create(key)
                    form = self._probe_etag(key)
                finally:
                    self.delete_object(key)
                self._probed = StoreCapabilities(create_only, form is not _EtagForm.IGNORED), form
            return self._probed

    def _probe_create(self, key: str) -> bool:
        """Whether of two creates the second is refused."""
        created = self._try(key, b"create", IfNoneMatch="*")
        return created and not self._put(key, b"create again", "text/plain", IfNoneMatch="*")

    def _probe_etag(self, key: str) -> _EtagForm:
        """The form in which a stale ETag is refused and the right one accepted."""
        self._put(key, b"stale", "text/plain")
        stale = self.read_object(key)
        self._put(key, b"current", "text/plain")
        current = self.read_object(key)
        if stale is None or current is None or not current.etag:
            return _EtagForm.IGNORED
        for form in (_EtagForm.QUOTED, _EtagForm.UNQUOTED):
            if self._put(key, b"lost update", "text/plain", IfMatch=_spell(stale.etag, form)):
                return _EtagForm.IGNORED
            if self._try(key, b"update", IfMatch=_spell(current.etag, form)):
                return form
        return _EtagForm.IGNORED

    def _try(self, key: str, body: bytes, **condition: Any) -> bool:
        """Whether a write that nothing stands against is done; one whose answer was lost is."""
        for _ in range(_PROBE_ATTEMPTS):
            if self._put(key, body, "text/plain", **condition):
                return True
            stored = self.read_object(key)
            if stored is not None and stored.body == body:
                return True
        return False

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Errors of the client as ours."""
        try:
            yield
        except ClientError as error:
            raise self._explain(key, error) from error
        except CREDENTIAL_ERRORS as error:
            raise StoreRefused(
                f"{key}: no credentials for {self.url}: set AWS_PROFILE or AWS_ACCESS_KEY_ID"
            ) from error
        except SIGN_IN_ERRORS as error:
            raise StoreRefused(f"{key}: {self.url}: {_SIGN_IN_AGAIN}") from error
        except ParamValidationError as error:
            raise StoreRefused(f"{key}: {self.url} is no bucket: look at CLOUDMASK_STORE") from error
        except BotoCoreError as error:
            raise StoreUnavailable(
                f"{key}: {self.url} does not answer ({type(error).__name__}): "
                "try again, or look at AWS_ENDPOINT_URL"
            ) from error

    def _explain(self, key: str, error: ClientError) -> StoreUnavailable | StoreRefused:
        code = _code(error)
        if _status(error) >= 500 or _status(error) in _PASSING_STATUSES or code in _PASSING:
            return StoreUnavailable(f"{key}: {self.url} answered {code}: try again later")
        if code in _MENDED_BY:
            return StoreRefused(f"{key}: {self.url} answered {code}: {_MENDED_BY[code]}")
        if code == "NoSuchBucket":
            return StoreRefused(
                f"{key}: {self.url}: the bucket does not exist: create it, or mend CLOUDMASK_STORE"
            )
        if _status(error) in {401, 403}:
            return StoreRefused(
                f"{key}: {self.url} answered {code}: look at the credentials and the bucket's policy"
            )
        return StoreRefused(f"{key}: {self.url} answered {code}: it does not support what this store needs")


def _spell(etag: str, form: _EtagForm) -> str:
    bare = etag.strip('"')
    return bare if form is _EtagForm.UNQUOTED else f'"{bare}"'


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "an error without a code"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
