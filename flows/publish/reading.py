"""Reading for a check: what could not be looked at is told apart from what is not there.

Only two things are proof: bytes that came, and two answers that agree that there are none, a read's and a
listing's. Everything else is doubt, of which nothing is concluded and for which nothing is removed: no
answer, no right, an answer that breaks off, a file of another user, an error that nobody has thought of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import CloudmaskError
from flows.ports import ObjectInfo, ObjectStore, StoredObject
from flows.publish.findings import Finding, Problem

_LONGEST_REASON = 300


class CouldNotRead(Exception):
    """An object or a listing could not be looked at; no ``CloudmaskError``, so that none is taken for it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.finding = Finding(Problem.COULD_NOT_READ, key, reason)


@contextmanager
def looking_at(key: str) -> Iterator[None]:
    """Turn whatever a store raises into ``CouldNotRead``."""
    try:
        yield
    except CouldNotRead:
        raise
    except Exception as error:  # an unknown error is doubt as well
        raise CouldNotRead(key, explain_error(key, error)) from error


def read(store: ObjectStore, key: str) -> StoredObject | None:
    """Return the object, or None where the store says that there is none.

    Raises:
        CouldNotRead: it says neither.
    """
    with looking_at(key):
        return store.read_object(key)


def list_objects(store: ObjectStore, prefix: str) -> Iterator[ObjectInfo]:
    """List the objects below ``prefix``, in key order.

    Raises:
        CouldNotRead: the listing failed, perhaps after some of them.
    """
    with looking_at(prefix):
        yield from store.list_objects(prefix)


def find_absence(store: ObjectStore, key: str) -> Finding | None:
    """Return None where a key that no listing showed is not there; else the doubt about it."""
    try:
        if read(store, key) is None:
            return None
    except CouldNotRead as error:
        return error.finding
    return Finding(Problem.COULD_NOT_READ, key, "is there, and a listing of its folder does not show it")


def explain_error(key: str, error: Exception) -> str:
    """Say in one line why ``key`` could not be read or written."""
    text = " ".join(str(error).split())
    if not isinstance(error, CloudmaskError):
        text = f"{type(error).__name__}: {text}"
    return text.removeprefix(f"{key}: ")[:_LONGEST_REASON]
