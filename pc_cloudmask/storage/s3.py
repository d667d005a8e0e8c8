"""An object store in an S3 bucket."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

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
from pc_cloudmask.storage.store import (
    PROBE_PREFIX,
    BucketPlace,
    ObjectInfo,
    ObjectPart,
    StoreCapabilities,
    StoredObject,
    check_key,
    check_prefix,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


T = TypeVar("T")
#: Error codes for a write that met another one in progress, as AWS gives them; ``409`` if there is no code.
_CONFLICT_CODES = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
#: Answers to a condition that did not hold. AWS says 409 if a conditional write met another one in progress, 404 if the
#: object of ``If-Match`` is gone; 501 comes from stores that do not support conditions.
_NOT_HELD = _CONFLICT_CODES | {"412", "PreconditionFailed", "NoSuchKey", "501", "NotImplemented"}
#: Answers to those who may not list a bucket; an answer to HEAD has no code but the status.
_FORBIDDEN = frozenset({"403", "AccessDenied"})
#: Answers to a range that begins after the object's end.
_BEYOND_END = frozenset({"416", "InvalidRange"})
#: A create that lost to a writer whose object has since gone is retried, but not forever.
_CREATE_ATTEMPTS = 5
#: Maximum number of trials of a condition, and how many must agree that it is not honoured.
_TRIALS, _AGREEING = 6, 3
#: Attempts at a trial's write that met another one in progress (409): some stores also use 409 to refuse.
_TRIAL_WRITES = 3


class EtagForm(Enum):
    """How a store expects the ETag in ``If-Match``."""

    QUOTED = "quoted"  # AWS S3, MinIO, R2, moto
    UNQUOTED = "unquoted"  # Ceph RGW: always answers 412 to a quoted one
    IGNORED = "ignored"  # localbucket, s3rver: no compare-and-swap

    def spell(self, etag: str) -> str:
        """Return ``etag`` as the store expects it in a condition."""
        bare = etag.strip('"')
        return bare if self is EtagForm.UNQUOTED else f'"{bare}"'


class S3Store:
    """Keys are those of a bucket below ``prefix``.

    Every write is one ``put_object``: some stores ignore conditions on multipart uploads. The client retries, so a
    conditional write may meet its own success: a refusal counts only if the stored bytes differ. Reads are repeated
    until an answer proves itself (``s3_answers``): a truncated answer never makes a listing empty or an object absent.
    One store may be used by many threads.
    """

    def __init__(self, bucket: str, prefix: str, client: S3Client) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self._client = client
        self._probe_lock = threading.Lock()
        self._probed: tuple[StoreCapabilities, EtagForm] | None = None

    @property
    def url(self) -> str:
        """See ``ObjectStore``."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def check_bucket(self) -> None:
        """Check that the bucket exists and may be listed.

        Raises:
            StoreRefused: there is no such bucket, or credentials or permissions are missing.
            StoreUnavailable: the endpoint does not answer.
        """
        next(self._pages(self._prefix, MaxKeys=1))

    def find_place(self) -> BucketPlace:
        """Return where the bucket is: in the region that it names itself, or else its client's.

        Raises:
            StoreRefused, StoreUnavailable: as ``check_bucket``.
        """
        meta = self._client.meta
        region = ask_until_proven(self.url, "", self._ask_region) or meta.region_name
        return BucketPlace(self.url, meta.endpoint_url, None if region == "aws-global" else region)

    def probe_capabilities(self) -> StoreCapabilities:
        """See ``ObjectStore``."""
        return self._probe()[0]

    def read_object(self, key: str) -> StoredObject | None:
        """See ``ObjectStore``."""
        return ask_until_proven(self.url, key, partial(self._ask_object, key, self._name(key)))

    def find_object(self, key: str) -> ObjectInfo | None:
        """See ``ObjectStore``."""
        return ask_until_proven(self.url, key, partial(self._ask_head, key, self._name(key)))

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        """See ``ObjectStore``."""
        return ask_until_proven(self.url, key, partial(self._ask_part, key, self._name(key), offset, length))

    def create_object(self, key: str, body: bytes, media_type: str) -> None:
        """See ``ObjectStore``."""
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
        """See ``ObjectStore``."""
        self._put(key, body, media_type)

    def replace_object(self, key: str, body: bytes, media_type: str, etag: str) -> None:
        """See ``ObjectStore``."""
        form = self._probe()[1]
        if form is EtagForm.IGNORED:
            stored = self.read_object(key)  # the best a single writer can do
            if stored is None or stored.etag != etag:
                raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")
            self._put(key, body, media_type)
        elif self._put(key, body, media_type, IfMatch=form.spell(etag)):
            stored = self.read_object(key)
            if stored is None or stored.body != body:
                raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")

    def delete_object(self, key: str) -> None:
        """See ``ObjectStore``."""
        delete = partial(self._client.delete_object, Bucket=self._bucket, Key=self._name(key))
        ask_until_proven(self.url, key, delete)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ``ObjectStore``."""
        for page in self._pages(self._prefix + check_prefix(prefix)):
            for entry in page.get("Contents", ()):
                if _is_folder_marker(entry):
                    continue
                yield ObjectInfo(
                    entry["Key"].removeprefix(self._prefix), entry["Size"], entry.get("LastModified")
                )

    def list_folders(self, prefix: str) -> Iterator[str]:
        """See ``ObjectStore``; for a store without delimiters, folders are derived from the keys."""
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
        """Yield every page of the keys that begin with ``name``, each proven complete."""
        shown, tokens = name.removeprefix(self._prefix), list[str]()
        while True:
            page = ask_until_proven(self.url, shown, partial(self._ask_page, name, tokens, options))
            yield page
            if not page.get("IsTruncated"):
                return
            tokens.append(page["NextContinuationToken"])

    def _ask_page(self, name: str, tokens: list[str], options: dict[str, Any]) -> Answer:
        """Return the page for the last of ``tokens``, or the first page if there are none."""
        going_on: dict[str, Any] = {"ContinuationToken": tokens[-1]} if tokens else {}
        page: Answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=name, **options, **going_on)
        check_page(page, name, tokens)
        return page

    def _ask_region(self) -> str | None:
        answer: Mapping[str, Any]
        try:
            answer = self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if (
                error_code(error) not in _FORBIDDEN
            ):  # who may only read part of a bucket is told its region, too
                raise
            answer = error.response
        region: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return region

    def _ask_object(self, key: str, name: str) -> StoredObject | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            self._check_absent(name, error)
            return None
        return StoredObject(key, read_body(answer), answer["ETag"])

    def _ask_part(self, key: str, name: str, offset: int, length: int) -> ObjectPart | None:
        wanted = f"bytes={offset}-{offset + length - 1}"
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=name, Range=wanted)
        except ClientError as error:
            if error_code(error) in _BEYOND_END and (info := self._ask_head(key, name)):
                return ObjectPart(b"", info.size)
            self._check_absent(name, error)
            return None
        body, told = read_body(answer), answer.get("ContentRange", "")
        if not told:  # a store without ranges returns all of it
            return ObjectPart(body[offset : offset + length], len(body))
        if not told.startswith(f"bytes {offset}-{offset + len(body) - 1}/"):
            raise DoubtfulAnswer("another range than was asked for")
        return ObjectPart(body, int(told.rpartition("/")[2]))

    def _ask_head(self, key: str, name: str) -> ObjectInfo | None:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            self._check_absent(name, error)
            return None
        check_found(answer)
        return ObjectInfo(key, answer["ContentLength"], answer.get("LastModified"))

    def _check_absent(self, name: str, error: ClientError) -> None:
        """Check that the object is absent: a 404 that may come from a proxy is confirmed by a listing.

        Raises:
            ClientError: the answer says something else.
            DoubtfulAnswer: the listing shows the object.
        """
        if not is_absent(error):
            raise error
        if proves_absence(error):
            return
        page = self._ask_page(
            name, [], {"MaxKeys": 1}
        )  # the key itself comes first among those that begin with it
        if any(entry["Key"] == name for entry in page.get("Contents", ())):
            raise DoubtfulAnswer("404 for an object that its listing shows")

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _put(self, key: str, body: bytes, media_type: str, **condition: Any) -> str:
        """Write the object; return the error code if the condition did not hold, else an empty string.

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
        # A 200 without an ETag is an unknown outcome: some proxies answer like this to a broken upload.
        stored = self.read_object(key)
        if stored is None or stored.body != body:
            raise StoreUnavailable(
                f"{key}: {self.url} answered without an ETag and holds other bytes: try again"
            )
        return ""

    def _probe(self) -> tuple[StoreCapabilities, EtagForm]:
        """Find out, once, which conditional writes the bucket honours, using temporary objects.

        A single trial proves that a condition is honoured: the store refused a write that it had to refuse, accepted
        one that it had to accept, and held the right bytes after each. That a store lacks conditions is believed only
        if several trials agree, since a fault may look the same. Trials that fail or disagree prove nothing.

        Raises:
            StoreUnavailable: it could not be determined.
            StoreRefused: the bucket cannot be written.
        """
        with self._probe_lock:
            if self._probed is None:
                create_only = _agree(self, self._try_create, lambda honoured: honoured)
                form = _agree(self, self._try_swap, lambda form: form is not EtagForm.IGNORED)
                self._probed = StoreCapabilities(create_only, form is not EtagForm.IGNORED), form
            return self._probed

    def _try_create(self, key: str) -> bool:
        """Return True if the first of two creates succeeds and the second is refused."""
        first = self._try_write(key, "create", IfNoneMatch="*")
        return first is not None and self._try_write(key, "create again", IfNoneMatch="*") is None

    def _try_swap(self, key: str) -> EtagForm:
        """Return the form in which a stale ETag is refused and the current one accepted."""
        stale, current = self._try_write(key, "stale"), self._try_write(key, "current")
        if stale is None or current is None or stale.etag == current.etag:
            return EtagForm.IGNORED
        for form in (EtagForm.QUOTED, EtagForm.UNQUOTED):
            if self._try_write(key, "lost update", IfMatch=form.spell(stale.etag)):
                return EtagForm.IGNORED
            if self._try_write(key, "update", IfMatch=form.spell(current.etag)):
                return form
        return EtagForm.IGNORED

    def _try_write(self, key: str, label: str, **condition: str) -> StoredObject | None:
        """Return the object if its bytes show that it was written: the answer to a write may be lost.

        Raises:
            StoreUnavailable: it was neither written nor refused.
        """
        body = f"{label} {uuid.uuid4().hex}".encode()  # unique among all writes of all probes
        code = ""
        for _ in range(_TRIAL_WRITES):
            code = self._put(key, body, "text/plain", **condition)
            stored = self.read_object(key)
            if stored is not None and stored.body == body:
                return stored
            if code not in _CONFLICT_CODES:
                break
        if not code:
            raise StoreUnavailable(f"{key} does not hold what was written")
        return None


def _agree(store: S3Store, trial: Callable[[str], T], honours: Callable[[T], bool]) -> T:
    """Return what the trials agree on, each on its own temporary key.

    Raises:
        StoreUnavailable: they fail or disagree.
    """
    found: list[T] = []
    problem = "its answers contradict each other"
    for _ in range(_TRIALS):
        key = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
        try:
            found.append(trial(key))
        except StoreUnavailable as error:
            problem = str(error)
            continue
        finally:
            with contextlib.suppress(StoreUnavailable):  # `check --repair` removes what is left
                store.delete_object(key)
        if len(set(found)) > 1:
            problem = "its answers contradict each other"
            break
        if honours(found[0]) or len(found) == _AGREEING:
            return found[0]
    raise StoreUnavailable(
        f"{store.url}: could not find out whether it honours conditional writes ({problem}): try again later"
    )


def _is_folder_marker(entry: Mapping[str, Any]) -> bool:
    """Return True for the empty objects by which consoles and sync tools represent folders.

    Hadoop's end with ``_$folder$``, all others with a slash.
    """
    return bool(entry["Size"] == 0) and str(entry["Key"]).endswith(("/", "_$folder$"))


def _name_folders(page: Answer, name: str) -> Iterator[str]:
    """Yield the folders directly below ``name`` that contain the keys and common prefixes of ``page``."""
    for entry in page.get("CommonPrefixes", ()):
        yield entry["Prefix"].removeprefix(name).rstrip("/")
    for entry in page.get("Contents", ()):
        folder, slash, _ = entry["Key"].removeprefix(name).partition("/")
        if slash:
            yield folder
