"""The steps that publishing consists of.

A protocol is written as a generator that yields a ``Step`` after each of its effects, so that a
test may stop it between any two, as a dying machine does, or interleave several writers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from flows.errors import KeyExists, StoreUnavailable, WriteConflict
from flows.ports import ObjectStore, StoredObject
from flows.stac.links import JSON_MEDIA_TYPE

_SWAP_ATTEMPTS = 100
"""Of any number of writers that race for one document, one wins each round."""


class StepName(StrEnum):
    """What a step did."""

    MARK = "mark"
    FILE = "file"
    ITEM = "item"
    SUPERSEDE = "supersede"
    REVIVE = "revive"
    READ = "read"
    RENDER = "render"
    WRITE = "write"
    CONFLICT = "conflict"
    UNMARK = "unmark"
    BURY = "bury"


class Step(NamedTuple):
    """One effect, or one reading that a later effect rests on."""

    name: StepName
    key: str


Steps = Iterator[Step]
Render = Callable[[StoredObject | None], bytes | None]


def run_steps(steps: Steps) -> None:
    """Take every step."""
    for _ in steps:
        pass


def swap_steps(
    store: ObjectStore,
    key: str,
    render: Render,
    media_type: str = JSON_MEDIA_TYPE,
    *,
    confirm: bool = False,
) -> Steps:
    """Bring the document at ``key`` to what ``render`` makes of the present one.

    The ETag is read before ``render`` lists anything: whatever another writer publishes after
    that listing ends in a write of this key, which makes ours fail and start again. A document
    that is right already is not written, nor is one for which ``render`` gives None. ``confirm`` renders
    once more after each write: what was taken back and then restored since the listing needs no write where
    the document that ours replaces was right.

    Raises:
        StoreUnavailable: every attempt lost against another writer.
    """
    for _ in range(_SWAP_ATTEMPTS):
        current = store.read_object(key)
        yield Step(StepName.READ, key)
        body = render(current)
        yield Step(StepName.RENDER, key)
        if body is None or (current is not None and current.body == body):
            return
        try:
            if current is None:
                store.create_object(key, body, media_type)
            else:
                store.replace_object(key, body, media_type, current.etag)
        except (KeyExists, WriteConflict):
            yield Step(StepName.CONFLICT, key)
            continue
        yield Step(StepName.WRITE, key)
        if not confirm:
            return
    raise StoreUnavailable(f"{key}: lost {_SWAP_ATTEMPTS} times against other writers: try again with fewer")
