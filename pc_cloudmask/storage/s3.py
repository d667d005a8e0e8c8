"""An object store in an S3 bucket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pc_cloudmask.errors import KeyExists, StoreUnavailable, WriteConflict
from pc_cloudmask.storage.s3_answers import (
    Answer,
    DoubtfulAnswer,
    ask_until_proven,
    check_found,
    check_page,
    error_code,
    is_absent,
    proves_absence,
    read_body,
    translated_errors,
)
from pc_cloudmask.storage.s3_probe import CONFLICT_CODES, Access, EtagForm, probe_conditions, spell_etag
from pc_cloudmask.storage.store import ObjectInfo, StoreCapabilities, StoredObject, check_key, check_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


#: Answers to a condition that did not hold: AWS says 409 where a conditional write met another one under way,
#: 404 where the object of ``If-Match`` is gone; 501 is of stores that know no conditions.
_NOT_HELD = CONFLICT_CODES | {"412", "PreconditionFailed", "NoSuchKey", "501", "NotImplemented"}
#: A create that lost to a writer whose object is gone again is tried once more, not for ever.
_CREATE_ATTEMPTS = 5


class S3Store:
    """Keys are those of a bucket below ``prefix``.

    Every write is one ``put_object``: some stores ignore conditions on multipart uploads. The
    client retries, so a conditional write may meet its own success: a refusal counts only when the
    stored bytes differ. What is read is asked for again until an answer proves itself (``s3_answers``):
    no listing is empty, and no object absent, because an answer broke off. One store may be used by
    many threads.
    """

    def __init__(self, bucket: str, prefix: str, client: S3Client) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self._client = client
        self._probe_lock = threading.Lock()
        self._probed: tuple[StoreCapabilities, EtagForm] | None = None

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def check_bucket(self) -> None:
        """Check that the bucket is there and may be listed.

        Raises:
            StoreRefused: no such bucket, no credentials, no right.
            StoreUnavailable: the endpoint does not answer.
        """
        next(self._pages(self._prefix, MaxKeys=1))

    def probe_capabilities(self) -> StoreCapabilities:
        return self._probe()[0]

    def read_object(self, key: str) -> StoredObject | None:
        return ask_until_proven(self.url, key, partial(self._ask_object, key, self._name(key)))

    def find_object(self, key: str) -> ObjectInfo | None:
        return ask_until_proven(self.url, key, partial(self._ask_head, key, self._name(key)))

    def create_object(self, key: str, body: bytes, media_type: str) -> None:
        condition = {"IfNoneMatch": "*"} if self.probe_capabilities().create_only else {}
        if not condition and self.find_object(key) is None:  # the best a single writer can do
            self._put(key, body, media_type)
            return
        for _ in range(_CREATE_ATTEMPTS):
            if condition and not self._put(key, body, media_type, **condition):
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
        if form is EtagForm.IGNORED:
            stored = self.read_object(key)  # the best a single writer can do
            if stored is None or stored.etag != etag:
                raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")
            self._put(key, body, media_type)
        elif self._put(key, body, media_type, IfMatch=spell_etag(etag, form)):
            stored = self.read_object(key)
            if stored is None or stored.body != body:
                raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")

    def delete_object(self, key: str) -> None:
        delete = partial(self._client.delete_object, Bucket=self._bucket, Key=self._name(key))
        ask_until_proven(self.url, key, delete)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._pages(self._prefix + check_prefix(prefix)):
            for entry in page.get("Contents", ()):
                yield ObjectInfo(
                    entry["Key"].removeprefix(self._prefix), entry["Size"], entry.get("LastModified")
                )

    def list_folders(self, prefix: str) -> Iterator[str]:
        """As the port says; a store that knows no delimiters tells its folders by its keys."""
        name = self._prefix + check_prefix(prefix)
        seen: set[str] = set()
        # Some stores answer a delimiter with the keys below it, some with nothing: then all keys are read.
        for options in ({"Delimiter": "/"}, {}):
            for page in self._pages(name, **options):
                for folder in _name_folders(page, name):
                    if folder not in seen:
                        seen.add(folder)
                        yield folder
            if seen:
                return

    def _pages(self, name: str, **options: Any) -> Iterator[Answer]:
        """Every page of the keys that begin with ``name``, each proven."""
        shown, tokens = name.removeprefix(self._prefix), list[str]()
        while True:
            page = ask_until_proven(self.url, shown, partial(self._ask_page, name, tokens, options))
            yield page
            if not page.get("IsTruncated"):
                return
            tokens.append(page["NextContinuationToken"])

    def _ask_page(self, name: str, tokens: list[str], options: dict[str, Any]) -> Answer:
        """Return the page that the last of ``tokens`` leads to, the first one without any."""
        going_on: dict[str, Any] = {"ContinuationToken": tokens[-1]} if tokens else {}
        page: Answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=name, **options, **going_on)
        check_page(page, name, tokens)
        return page

    def _ask_object(self, key: str, name: str) -> StoredObject | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            self._check_absent(name, error)
            return None
        return StoredObject(key, read_body(answer), answer["ETag"])

    def _ask_head(self, key: str, name: str) -> ObjectInfo | None:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            self._check_absent(name, error)
            return None
        check_found(answer)
        return ObjectInfo(key, answer["ContentLength"], answer.get("LastModified"))

    def _check_absent(self, name: str, error: ClientError) -> None:
        """Check that the object is not there: a 404 that may be a proxy's is confirmed by a listing.

        Raises:
            ClientError: an answer that says something else.
            DoubtfulAnswer: the listing shows the object.
        """
        if not is_absent(error):
            raise error
        if proves_absence(error):
            return
        page = self._ask_page(name, [], {"MaxKeys": 1})  # of keys that begin so, itself comes first
        if any(entry["Key"] == name for entry in page.get("Contents", ())):
            raise DoubtfulAnswer("404 for an object that its listing shows")

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _put(self, key: str, body: bytes, media_type: str, **condition: Any) -> str:
        """Write the object; return the code of the refusal where the condition did not hold, else nothing.

        Raises:
            StoreUnavailable: the outcome is unknown.
        """
        name = self._name(key)
        try:
            with translated_errors(self.url, key):
                try:
                    answer = self._client.put_object(
                        Bucket=self._bucket, Key=name, Body=body, ContentType=media_type, **condition
                    )
                except ClientError as error:
                    if condition and error_code(error) in _NOT_HELD:
                        return error_code(error)
                    raise
        except DoubtfulAnswer as error:
            raise StoreUnavailable(f"{key}: {self.url} answered with {error}: try again") from error
        if answer.get("ETag"):
            return ""
        # A 200 without an ETag is an unknown outcome: some proxies answer so to a broken upload.
        stored = self.read_object(key)
        if stored is None or stored.body != body:
            raise StoreUnavailable(
                f"{key}: {self.url} answered without an ETag and holds other bytes: try again"
            )
        return ""

    def _probe(self) -> tuple[StoreCapabilities, EtagForm]:
        with self._probe_lock:
            if self._probed is None:
                access = Access(self.url, self._put, self.read_object, self.delete_object)
                self._probed = probe_conditions(access)
            return self._probed


def _name_folders(page: Answer, name: str) -> Iterator[str]:
    """Yield the folders right below ``name`` that the keys and common prefixes of ``page`` lie in."""
    for entry in page.get("CommonPrefixes", ()):
        yield entry["Prefix"].removeprefix(name).rstrip("/")
    for entry in page.get("Contents", ()):
        folder, slash, _ = entry["Key"].removeprefix(name).partition("/")
        if slash:
            yield folder
