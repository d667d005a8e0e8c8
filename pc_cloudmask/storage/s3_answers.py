"""What a bucket's answers prove, and its client's errors translated into ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from http.client import HTTPException
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pc_cloudmask.contact import explain_proxy
from pc_cloudmask.errors import StoreRefused, StoreUnavailable
from pc_cloudmask.text import unsigned_href
from pc_cloudmask.web import RetryPolicy

T = TypeVar("T")
Answer = Mapping[str, Any]
#: Errors of a request for which there were no credentials, or none that are still valid.
CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
SIGN_IN_ERRORS = (SSOError, TokenRetrievalError)
_PASSING = frozenset({"408", "429", "RequestTimeout", "SlowDown", "Throttling", "TooManyRequests"})
_PASSING_STATUSES = frozenset({408, 409, 429})
_SIGN_IN_AGAIN = "the sign-in has expired: sign in again ('aws sso login'), or set other credentials"
#: In a TLS error: the certificate is at fault, rather than a broken connection.
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_WANTS_BUCKET_IN_HOST = (
    "this store wants the bucket in the host's name: set addressing_style = virtual, below s3 =, in the AWS "
    "configuration"
)
_IN_ANOTHER_REGION = "the bucket is in another region: set AWS_DEFAULT_REGION to its own"
#: How to mend refusals, by error code (HTTP 400 and 301). boto3 follows redirects to another region only on AWS.
_MENDED_BY = {
    "ExpiredToken": _SIGN_IN_AGAIN,
    "InvalidToken": _SIGN_IN_AGAIN,
    "AuthorizationHeaderMalformed": _IN_ANOTHER_REGION,
    "PermanentRedirect": _IN_ANOTHER_REGION,
    "IllegalLocationConstraintException": _IN_ANOTHER_REGION,
    "SecondLevelDomainForbidden": _WANTS_BUCKET_IN_HOST,
    "PathStyleDomainForbidden": _WANTS_BUCKET_IN_HOST,
    "VirtualHostDomainRequired": _WANTS_BUCKET_IN_HOST,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}
#: Codes of a 404 that is about the object; an empty code means a page that is not the store's.
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound", ""})
#: What a body that breaks off raises: botocore retries requests, but never the reading of a body.
_BROKEN_BODY = (BotoCoreError, HTTPError, HTTPException, OSError)
#: What botocore raises for an answer that it cannot parse: a truncated document, a length that is no number.
_UNREADABLE = (ResponseParserError, ValueError)
#: Each of these proves that the root element of a listing was read to its end. Ceph, MinIO, moto and SeaweedFS send all
#: of them; gofakes3 omits a KeyCount of 0.
_PAGE_PROOFS = frozenset({"IsTruncated", "KeyCount", "Name"})
#: For answers without proof.
_RETRY = RetryPolicy(attempts=5, backoff_s=0.2)


class DoubtfulAnswer(Exception):
    """An answer that proves nothing; the text says what came instead."""


def ask_until_proven(url: str, key: str, ask: Callable[[], T]) -> T:
    """Return the result of ``ask``, repeating it while it raises ``DoubtfulAnswer``.

    Raises:
        StoreUnavailable: no answer, or none that proves anything in several attempts.
        StoreRefused: an answer that asking again cannot change.
    """
    for attempt in range(1, _RETRY.attempts + 1):
        try:
            with translated_errors(url, key):
                return ask()
        except DoubtfulAnswer as error:
            problem = error
        if attempt < _RETRY.attempts:
            time.sleep(_RETRY.delay_s(attempt))
    raise StoreUnavailable(
        f"{key or 'the bucket'}: {url} answered with {problem}: try again later"
    ) from problem


def read_body(answer: Answer) -> bytes:
    """Return the body of a GET.

    An answer that breaks off after its status line looks like an empty body without headers.

    Raises:
        DoubtfulAnswer: the body breaks off, or no header proves that it is complete.
    """
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    body = answer["Body"]
    if not answer.get("ETag"):
        body.close()
        raise DoubtfulAnswer("an object without an ETag")
    if "ContentLength" not in answer and "chunked" not in headers.get("transfer-encoding", ""):
        body.close()
        raise DoubtfulAnswer("an object of unknown length")
    try:
        content: bytes = body.read()
    except _BROKEN_BODY as error:
        raise DoubtfulAnswer(f"a body that broke off ({type(error).__name__})") from error
    if len(content) != answer.get("ContentLength", len(content)):
        raise DoubtfulAnswer(f"{len(content)} of {answer['ContentLength']} bytes")
    return content


def check_found(answer: Answer) -> None:
    """Check that a HEAD has the headers that an existing object must have.

    Raises:
        DoubtfulAnswer: it does not.
    """
    if not answer.get("ETag") or "ContentLength" not in answer:
        raise DoubtfulAnswer("an object without a length or an ETag")


#: Maximum number of keys in a page of a listing, for S3 and compatible stores.
PAGE_KEYS = 1000


def check_page(page: Answer, name: str, tokens: Collection[str] = ()) -> None:
    """Check that ``page`` is a page of a listing of the keys that begin with ``name``, and says how to continue.

    ``tokens`` are the continuation tokens already used in this listing: a repeated one would make an endless loop.

    Raises:
        DoubtfulAnswer: an answer that breaks off after its status line, which botocore takes for an empty listing; a
            full page that does not say whether it is the last; a page that ends the listing though more is to come;
            keys of another listing.
    """
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


def is_absent(error: ClientError) -> bool:
    """Return True if the answer says that the object is absent."""
    return error_code(error) in _ABSENT and _status(error) == 404


def proves_absence(error: ClientError) -> bool:
    """Return True if a 404 comes from the store itself: a proxy in front of an unreachable store sends its own page.

    CloudFront, a proxy, names its own headers ``x-amz-cf-``.
    """
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    own = (name for name in headers if not name.lower().startswith("x-amz-cf-"))
    return error_code(error) == "NoSuchKey" or any(name.lower().startswith("x-amz-") for name in own)


def error_code(error: ClientError) -> str:
    """Return the error code of the answer, or its status if it has none."""
    return str(error.response.get("Error", {}).get("Code", "an error without a code"))


@contextlib.contextmanager
def translated_errors(url: str, key: str) -> Iterator[None]:
    """Raise the client's errors as ours, and unreadable answers as ``DoubtfulAnswer``."""
    where = key or "the bucket"
    try:
        yield
    except ClientError as error:
        raise _explain(url, where, error) from error
    except CREDENTIAL_ERRORS as error:
        raise StoreRefused(
            f"{where}: no credentials for {url}: set AWS_PROFILE or AWS_ACCESS_KEY_ID"
        ) from error
    except SIGN_IN_ERRORS as error:
        raise StoreRefused(f"{where}: {url}: {_SIGN_IN_AGAIN}") from error
    except ParamValidationError as error:
        raise StoreRefused(f"{where}: {url} is no bucket: look at its name") from error
    except ProxyConnectionError as error:
        proxy = unsigned_href(str(error.kwargs.get("proxy_url")))
        problem = explain_proxy(error.kwargs.get("error"), url, proxy)
        raise StoreUnavailable(f"{where}: {url}: {problem}: try again") from error
    except SSLError as error:
        if _UNTRUSTED not in str(error):
            raise StoreUnavailable(
                f"{where}: {url} does not answer ({type(error).__name__}): try again"
            ) from error
        raise StoreRefused(
            f"{where}: {url}: its TLS certificate was not accepted: let AWS_CA_BUNDLE name the file that it is "
            "signed by"
        ) from error
    except (BotoCoreError, HTTPError, HTTPException) as error:
        raise StoreUnavailable(
            f"{where}: {url} does not answer ({type(error).__name__}): try again, or look at AWS_ENDPOINT_URL"
        ) from error
    except _UNREADABLE as error:
        raise DoubtfulAnswer(f"what cannot be read ({type(error).__name__})") from error


def _explain(url: str, where: str, error: ClientError) -> StoreUnavailable | StoreRefused:
    code, status = error_code(error), _status(error)
    if not code:
        return StoreUnavailable(f"{where}: {url} answered HTTP {status} without a code: try again later")
    if status >= 500 or status in _PASSING_STATUSES or code in _PASSING:
        return StoreUnavailable(f"{where}: {url} answered {code}: try again later")
    if code in _MENDED_BY:
        return StoreRefused(f"{where}: {url} answered {code}: {_MENDED_BY[code]}")
    if code == "NoSuchBucket":
        return StoreRefused(f"{where}: {url}: the bucket does not exist: create it, or name another")
    if status in {401, 403}:
        return StoreRefused(
            f"{where}: {url} answered {code}: look at the credentials and the bucket's policy"
        )
    return StoreRefused(f"{where}: {url} answered {code}: it does not support what this store needs")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
