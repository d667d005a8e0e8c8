"""An object store in an S3 bucket: what its answers prove, and which conditions of writes it honours."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pc_cloudmask.contact import explain_proxy
from pc_cloudmask.errors import KeyExists, StoreRefused, StoreUnavailable, WriteConflict
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
from pc_cloudmask.text import unsigned_href
from pc_cloudmask.web import RetryPolicy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

T = TypeVar("T")
Answer = Mapping[str, Any]
#: Error codes for a write that met another one in progress, as AWS gives them; ``409`` if there is no code.
_CONFLICT_CODES = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
#: Answers to a condition that did not hold. AWS says 409 if a conditional write met another one in progress, 404 if the
#: object of ``If-Match`` is gone; 501 comes from stores that do not support conditions.
_NOT_HELD = _CONFLICT_CODES | {"412", "PreconditionFailed", "NoSuchKey", "501", "NotImplemented"}
#: Codes of a 404 that is about the object; an empty code means a page that is not the store's.
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound", ""})
_PASSING = frozenset({"408", "429", "RequestTimeout", "SlowDown", "Throttling", "TooManyRequests"})
_SIGN_IN_AGAIN = "the sign-in has expired: sign in again ('aws sso login'), or set other credentials"
#: How to mend refusals, by error code (HTTP 400 and 301). boto3 follows redirects to another region only on AWS.
_MENDED_BY = {
    **dict.fromkeys(("ExpiredToken", "InvalidToken"), _SIGN_IN_AGAIN),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"),
        "the bucket is in another region: set AWS_DEFAULT_REGION to its own",
    ),
    **dict.fromkeys(
        ("SecondLevelDomainForbidden", "PathStyleDomainForbidden", "VirtualHostDomainRequired"),
        "this store wants the bucket in the host's name: set addressing_style = virtual, below s3 =, in the AWS "
        "configuration",
    ),
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}
_UNSUPPORTED = "it does not support what this store needs"
#: What a body that breaks off raises: botocore retries requests, but never the reading of a body.
_BROKEN_BODY = (BotoCoreError, HTTPError, HTTPException, OSError)
#: Each of these proves that the root element of a listing was read to its end. Ceph, MinIO, moto and SeaweedFS send all
#: of them; gofakes3 omits a KeyCount of 0.
_PAGE_PROOFS = frozenset({"IsTruncated", "KeyCount", "Name"})
#: Maximum number of keys in a page of a listing, for S3 and compatible stores.
PAGE_KEYS = 1000
_NO_KEY = "the bucket"
_RETRY = RetryPolicy(attempts=5, backoff_s=0.2)  # for answers without proof
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
    until an answer proves itself: a truncated answer never makes a listing empty or an object absent. One store may be
    used by many threads.
    """

    def __init__(self, bucket: str, prefix: str, client: S3Client) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self.url = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._client = client
        self._probe_lock = threading.Lock()
        self._probed: tuple[StoreCapabilities, EtagForm] | None = None

    def check_bucket(self) -> None:
        """Check that the bucket exists and may be listed; raise ``StoreRefused`` or ``StoreUnavailable`` otherwise."""
        next(self._pages(self._prefix, MaxKeys=1))

    def find_place(self) -> BucketPlace:
        """Return where the bucket is: in the region that it names itself, or else its client's."""
        meta = self._client.meta

        def ask() -> str | None:
            try:
                answer: Answer = self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if _find_code(error) not in {"403", "AccessDenied"}:  # HEAD has no code but the status
                    raise
                answer = error.response  # who may only read part of a bucket is told its region, too
            return cast(str | None, answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region"))

        region = _ask(self.url, _NO_KEY, ask) or meta.region_name
        return BucketPlace(self.url, meta.endpoint_url, None if region == "aws-global" else region)

    def probe_capabilities(self) -> StoreCapabilities:
        """See ``ObjectStore``."""
        return self._probe()[0]

    def read_object(self, key: str) -> StoredObject | None:
        """See ``ObjectStore``."""
        name = self._name(key)

        def ask() -> StoredObject | None:
            answer = self._fetch(self._client.get_object, name)
            return None if answer is None else StoredObject(key, _read_body(answer), answer["ETag"])

        return _ask(self.url, key, ask)

    def find_object(self, key: str) -> ObjectInfo | None:
        """See ``ObjectStore``."""
        return _ask(self.url, key, partial(self._ask_head, key, self._name(key)))

    def read_part(self, key: str, offset: int, length: int) -> ObjectPart | None:
        """See ``ObjectStore``."""
        name, wanted = self._name(key), f"bytes={offset}-{offset + length - 1}"

        def ask() -> ObjectPart | None:
            try:
                answer = self._fetch(self._client.get_object, name, Range=wanted)
            except ClientError as error:
                if _find_code(error) in {"416", "InvalidRange"} and (info := self._ask_head(key, name)):
                    return ObjectPart(b"", info.size)  # the range begins after the object's end
                raise
            if answer is None:
                return None
            body, told = _read_body(answer), answer.get("ContentRange", "")
            if not told:  # a store without ranges returns all of it
                return ObjectPart(body[offset : offset + length], len(body))
            if not told.startswith(f"bytes {offset}-{offset + len(body) - 1}/"):
                raise DoubtfulAnswer("another range than was asked for")
            return ObjectPart(body, int(told.rpartition("/")[2]))

        return _ask(self.url, key, ask)

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
            if is_held := stored is not None and stored.etag == etag:
                self._put(key, body, media_type)
        else:
            is_held = not self._put(key, body, media_type, IfMatch=form.spell(etag)) or self._holds(key, body)
        if not is_held:
            raise WriteConflict(f"{key} in {self.url} was changed by another writer: read it again")

    def delete_object(self, key: str) -> None:
        """See ``ObjectStore``."""
        _ask(self.url, key, partial(self._client.delete_object, Bucket=self._bucket, Key=self._name(key)))

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ``ObjectStore``."""
        for page in self._pages(self._prefix + check_prefix(prefix)):
            for entry in page.get("Contents", ()):
                # Consoles, sync tools and Hadoop represent folders by empty objects.
                if entry["Size"] or not entry["Key"].endswith(("/", "_$folder$")):
                    key = entry["Key"].removeprefix(self._prefix)
                    yield ObjectInfo(key, entry["Size"], entry.get("LastModified"))

    def list_folders(self, prefix: str) -> Iterator[str]:
        """See ``ObjectStore``; for a store without delimiters, folders are derived from the keys."""
        name = self._prefix + check_prefix(prefix)
        # Some stores answer a delimiter with the keys below it, some with nothing: then all keys are read.
        for options in ({"Delimiter": "/"}, {}):
            seen: set[str] = set()
            for page in self._pages(name, **options):
                found = dict.fromkeys(each for each in _name_folders(page, name) if each not in seen)
                seen.update(found)
                yield from found
            if seen:
                return

    def _pages(self, name: str, **options: Any) -> Iterator[Answer]:
        """Yield every page of the keys that begin with ``name``, each proven complete."""
        shown, tokens = name.removeprefix(self._prefix) or _NO_KEY, list[str]()
        while True:
            page = _ask(self.url, shown, partial(self._ask_page, name, tokens, options))
            yield page
            if not page.get("IsTruncated"):
                return
            tokens.append(page["NextContinuationToken"])

    def _ask_page(self, name: str, tokens: list[str], options: dict[str, Any]) -> Answer:
        """Return the page for the last of ``tokens``, or the first page if there are none."""
        if tokens:
            options = {**options, "ContinuationToken": tokens[-1]}
        page: Answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=name, **options)
        check_page(page, name, tokens)
        return page

    def _ask_head(self, key: str, name: str) -> ObjectInfo | None:
        answer = self._fetch(self._client.head_object, name)
        if answer is None:
            return None
        if not answer.get("ETag") or "ContentLength" not in answer:
            raise DoubtfulAnswer("an object without a length or an ETag")
        return ObjectInfo(key, answer["ContentLength"], answer.get("LastModified"))

    def _fetch(self, request: Callable[..., Any], name: str, **options: str) -> Answer | None:
        """Return the answer about an object, or None for a 404; a listing confirms one that may come from a proxy."""
        try:
            return cast(Answer, request(Bucket=self._bucket, Key=name, **options))
        except ClientError as error:
            if _find_code(error) not in _ABSENT or _find_status(error) != 404:
                raise
            if proves_absence(error):
                return None
        # The key itself comes first among those that begin with it.
        page = self._ask_page(name, [], {"MaxKeys": 1})
        if any(entry["Key"] == name for entry in page.get("Contents", ())):
            raise DoubtfulAnswer("404 for an object that its listing shows")
        return None

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _put(self, key: str, body: bytes, media_type: str, **condition: Any) -> str:
        """Write the object; return the error code if the condition did not hold, else an empty string."""
        name = self._name(key)
        try:
            with _translated(self.url, key):
                try:
                    answer = self._client.put_object(
                        Bucket=self._bucket, Key=name, Body=body, ContentType=media_type, **condition
                    )
                except ClientError as error:
                    if condition and _find_code(error) in _NOT_HELD:
                        return _find_code(error)
                    raise
        except DoubtfulAnswer as error:
            raise StoreUnavailable(f"{key}: {self.url} answered with {error}: try again") from error
        # A 200 without an ETag is an unknown outcome: some proxies answer like this to a broken upload.
        if not answer.get("ETag") and not self._holds(key, body):
            raise StoreUnavailable(
                f"{key}: {self.url} answered without an ETag and holds other bytes: try again"
            )
        return ""

    def _holds(self, key: str, body: bytes) -> bool:
        stored = self.read_object(key)
        return stored is not None and stored.body == body

    def _probe(self) -> tuple[StoreCapabilities, EtagForm]:
        """Find out, once, which conditional writes the bucket honours, using temporary objects.

        A single trial proves that a condition is honoured: the store refused a write that it had to refuse, accepted
        one that it had to accept, and held the right bytes after each. That a store lacks conditions is believed only
        if several trials agree, since a fault may look the same. Trials that fail or disagree prove nothing.
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
        """Return the object if its bytes show that it was written: the answer to a write may be lost."""
        body = f"{label} {uuid.uuid4().hex}".encode()  # unique among all writes of all probes
        for _ in range(_TRIAL_WRITES):
            code = self._put(key, body, "text/plain", **condition)
            stored = self.read_object(key)
            if stored is not None and stored.body == body:
                return stored
            if not code:
                raise StoreUnavailable(f"{key} does not hold what was written")
            if code not in _CONFLICT_CODES:
                break
        return None


def _agree(store: S3Store, trial: Callable[[str], T], honours: Callable[[T], bool]) -> T:
    """Return what the trials agree on, each on its own temporary key."""
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


def _name_folders(page: Answer, name: str) -> Iterator[str]:
    """Yield the folders directly below ``name`` that contain the keys and common prefixes of ``page``."""
    for entry in page.get("CommonPrefixes", ()):
        yield entry["Prefix"].removeprefix(name).rstrip("/")
    for entry in page.get("Contents", ()):
        folder, slash, _ = entry["Key"].removeprefix(name).partition("/")
        if slash:
            yield folder


class DoubtfulAnswer(Exception):
    """An answer that proves nothing; the text says what came instead."""


def _ask(url: str, where: str, ask: Callable[[], T]) -> T:
    """Return the result of ``ask``, repeating it while it raises ``DoubtfulAnswer``."""
    for attempt in range(1, _RETRY.attempts + 1):
        try:
            with _translated(url, where):
                return ask()
        except DoubtfulAnswer as error:
            problem = error
        if attempt < _RETRY.attempts:
            time.sleep(_RETRY.delay_s(attempt))
    raise StoreUnavailable(f"{where}: {url} answered with {problem}: try again later") from problem


def _read_body(answer: Answer) -> bytes:
    """Return the body of a GET; one that breaks off after its status line looks like an empty one without headers."""
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    with contextlib.closing(answer["Body"]) as body:
        if not answer.get("ETag"):
            raise DoubtfulAnswer("an object without an ETag")
        if "ContentLength" not in answer and "chunked" not in headers.get("transfer-encoding", ""):
            raise DoubtfulAnswer("an object of unknown length")
        try:
            content: bytes = body.read()
        except _BROKEN_BODY as error:
            raise DoubtfulAnswer(f"a body that broke off ({type(error).__name__})") from error
    if len(content) != answer.get("ContentLength", len(content)):
        raise DoubtfulAnswer(f"{len(content)} of {answer['ContentLength']} bytes")
    return content


def check_page(page: Answer, name: str, tokens: Collection[str] = ()) -> None:
    """Check that ``page`` is a page of a listing of the keys that begin with ``name``, and says how to continue.

    ``tokens`` are the continuation tokens already used in this listing: a repeated one would make an endless loop.
    """
    # botocore takes an answer that breaks off after its status line for an empty listing.
    if _PAGE_PROOFS.isdisjoint(page):
        raise DoubtfulAnswer("a listing that says nothing, not even that it is complete")
    size = len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ()))
    if "IsTruncated" not in page and size >= PAGE_KEYS:
        raise DoubtfulAnswer("a full listing that does not say whether it is complete")
    if page.get("IsTruncated") and page.get("NextContinuationToken") in {None, "", *tokens}:
        raise DoubtfulAnswer("a cut listing that does not say how it goes on")
    for entry in page.get("Contents", ()):
        if not str(entry.get("Key", "")).startswith(name) or "Size" not in entry:
            raise DoubtfulAnswer("a listing of other keys")


def proves_absence(error: ClientError) -> bool:
    """Return True if a 404 comes from the store itself: a proxy in front of an unreachable store sends its own page."""
    headers = map(str.lower, error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))
    # CloudFront, a proxy, names its own headers x-amz-cf-.
    return _find_code(error) == "NoSuchKey" or any(re.match("x-amz-(?!cf-)", name) for name in headers)


def _find_code(error: ClientError) -> str:
    """Return the error code of the answer, or its status if it has none."""
    return str(error.response.get("Error", {}).get("Code", "an error without a code"))


@contextlib.contextmanager
def _translated(url: str, where: str) -> Iterator[None]:
    """Raise the client's errors as ours, and unreadable answers as ``DoubtfulAnswer``."""
    try:
        yield
    except ClientError as error:
        raise _explain_answer(url, where, error) from error
    except (BotoCoreError, HTTPError, HTTPException) as error:
        raise _explain_silence(url, where, error) from error
    except (ResponseParserError, ValueError) as error:  # a truncated document, a length that is no number
        raise DoubtfulAnswer(f"what cannot be read ({type(error).__name__})") from error


def _explain_silence(url: str, where: str, error: Exception) -> StoreUnavailable | StoreRefused:
    """Return the error for a request that met no answer of the store."""
    silent = f"{where}: {url} does not answer ({type(error).__name__}): try again"
    match error:
        case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.CredentialRetrievalError():
            refusal = f"no credentials for {url}: set AWS_PROFILE or AWS_ACCESS_KEY_ID"
        case boto.SSOError() | boto.TokenRetrievalError():
            refusal = f"{url}: {_SIGN_IN_AGAIN}"
        case boto.ParamValidationError():
            refusal = f"{url} is no bucket: look at its name"
        case boto.ProxyConnectionError():
            proxy = unsigned_href(str(error.kwargs.get("proxy_url")))
            problem = explain_proxy(error.kwargs.get("error"), url, proxy)
            return StoreUnavailable(f"{where}: {url}: {problem}: try again")
        case boto.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            remedy = "let AWS_CA_BUNDLE name the file that it is signed by"
            refusal = f"{url}: its TLS certificate was not accepted: {remedy}"
        case boto.SSLError():  # a broken connection
            return StoreUnavailable(silent)
        case _:
            return StoreUnavailable(f"{silent}, or look at AWS_ENDPOINT_URL")
    return StoreRefused(f"{where}: {refusal}")


def _explain_answer(url: str, where: str, error: ClientError) -> StoreUnavailable | StoreRefused:
    code, status = _find_code(error), _find_status(error)
    if not code:
        return StoreUnavailable(f"{where}: {url} answered HTTP {status} without a code: try again later")
    if status >= 500 or status in {408, 409, 429} or code in _PASSING:
        return StoreUnavailable(f"{where}: {url} answered {code}: try again later")
    if code == "NoSuchBucket":
        return StoreRefused(f"{where}: {url}: the bucket does not exist: create it, or name another")
    remedy = "look at the credentials and the bucket's policy" if status in {401, 403} else _UNSUPPORTED
    return StoreRefused(f"{where}: {url} answered {code}: {_MENDED_BY.get(code, remedy)}")


def _find_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
