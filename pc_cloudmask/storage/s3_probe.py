"""Finding out which conditions of a write a bucket honours.

One trial that shows a condition honoured proves it: the store refused a write that had to be refused, let
through one that had not, and held the right bytes after each. That a store lacks conditions is believed
of several trials that agree, since a fault may look so. Trials that fail, or disagree, prove nothing.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from pc_cloudmask.errors import StoreUnavailable
from pc_cloudmask.storage.store import PROBE_PREFIX, StoreCapabilities, StoredObject

T = TypeVar("T")
#: Trials at most, and how many must agree that a condition is not honoured.
_TRIALS, _AGREEING = 6, 3
#: Times that a write which met another one under way (409) is tried: some stores refuse with it, too.
_WRITES = 3
#: Codes of a write that met another one under way, as AWS gives them; ``409`` where there is no code.
CONFLICT_CODES = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})


class EtagForm(Enum):
    """How a store wants the ETag of ``If-Match``."""

    QUOTED = "quoted"  # AWS S3, MinIO, R2, moto
    UNQUOTED = "unquoted"  # Ceph RGW: a quoted one is answered 412 for ever
    IGNORED = "ignored"  # localbucket, s3rver: no compare-and-swap


class Put(Protocol):
    """Writes an object where the condition holds; returns the code of the refusal, or nothing."""

    def __call__(self, key: str, body: bytes, media_type: str, **condition: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Access:
    """What a probe does to a bucket."""

    url: str
    put: Put
    read: Callable[[str], StoredObject | None]
    delete: Callable[[str], None]


def probe_conditions(access: Access) -> tuple[StoreCapabilities, EtagForm]:
    """Find out what the bucket honours, on objects that are removed again.

    Raises:
        StoreUnavailable: it could not be found out.
        StoreRefused: the bucket cannot be written.
    """
    create_only = _agree(access, _try_create, lambda honoured: honoured)
    form = _agree(access, _try_swap, lambda form: form is not EtagForm.IGNORED)
    return StoreCapabilities(create_only, form is not EtagForm.IGNORED), form


def spell_etag(etag: str, form: EtagForm) -> str:
    """Return ``etag`` as the store wants it in a condition."""
    bare = etag.strip('"')
    return bare if form is EtagForm.UNQUOTED else f'"{bare}"'


def _agree(access: Access, trial: Callable[[Access, str], T], honours: Callable[[T], bool]) -> T:
    """Return what the trials agree on.

    Raises:
        StoreUnavailable: they fail or disagree.
    """
    found: list[T] = []
    problem = "its answers contradict each other"
    for _ in range(_TRIALS):
        try:
            found.append(_run(access, trial))
        except StoreUnavailable as error:
            problem = str(error)
            continue
        if len(set(found)) > 1:
            problem = "its answers contradict each other"
            break
        if honours(found[0]) or len(found) == _AGREEING:
            return found[0]
    raise StoreUnavailable(
        f"{access.url}: could not find out whether it honours conditional writes ({problem}): try again later"
    )


def _run(access: Access, trial: Callable[[Access, str], T]) -> T:
    """Return what one trial shows, on a key of its own that is removed again."""
    key = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    try:
        return trial(access, key)
    finally:
        with contextlib.suppress(StoreUnavailable):  # `check --repair` removes what stays
            access.delete(key)


def _try_create(access: Access, key: str) -> bool:
    """Whether of two creates the first is done and the second refused."""
    return _write(access, key, "create", IfNoneMatch="*") and not _write(
        access, key, "create again", IfNoneMatch="*"
    )


def _try_swap(access: Access, key: str) -> EtagForm:
    """Return the form in which a stale ETag is refused and the right one accepted."""
    stale, current = (_put_surely(access, key, label) for label in ("stale", "current"))
    if stale.etag == current.etag:
        return EtagForm.IGNORED
    for form in (EtagForm.QUOTED, EtagForm.UNQUOTED):
        if _write(access, key, "lost update", IfMatch=spell_etag(stale.etag, form)):
            return EtagForm.IGNORED
        if _write(access, key, "update", IfMatch=spell_etag(current.etag, form)):
            return form
    return EtagForm.IGNORED


def _put_surely(access: Access, key: str, label: str) -> StoredObject:
    body = _build_body(label)
    access.put(key, body, "text/plain")
    stored = access.read(key)
    if stored is None or stored.body != body:
        raise StoreUnavailable(f"{key} does not hold what was written")
    return stored


def _write(access: Access, key: str, label: str, **condition: str) -> bool:
    """Whether the write was done, as the object's bytes tell: the answer of one that was done may be lost."""
    body, code = _build_body(label), ""
    for _ in range(_WRITES):
        code = access.put(key, body, "text/plain", **condition)
        stored = access.read(key)
        if stored is not None and stored.body == body:
            return True
        if code not in CONFLICT_CODES:
            break
    if not code:
        raise StoreUnavailable(f"{key} does not hold what was written")
    return False


def _build_body(label: str) -> bytes:
    """Return bytes that no other write of any probe has."""
    return f"{label} {uuid.uuid4().hex}".encode()
