"""The tree of errors.

    CloudmaskError
    ├── SettingsError              wrong usage or settings                                  (ends the run)
    ├── Unreachable                no way to a server, told to somebody who waits           (ends the run)
    ├── MachineError               no memory, disk or right, or a package that is missing   (ends the run)
    ├── SourceError                the source API or one of its items
    │   ├── SourceUnavailable      no answer, 429, 5xx (retryable)
    │   ├── SourceRefused          an answer that breaks a rule of ours: size, host, form
    │   │   ├── SourceMistaken     an answer of something else than a STAC API: its URL may be wrong
    │   │   └── SourceDenied       401, 403: it wants credentials or shuts us out           (ends the run)
    │   └── ItemError              one item cannot become a scene                           (proven)
    │       ├── MissingField       … because a field is absent
    │       └── InvalidField       … because a field is there and wrong
    ├── AssetError                 the pixels of an asset
    │   ├── AssetUnavailable       could not be read now (retryable)
    │   ├── AssetDenied            the token service does not accept us                     (ends the run)
    │   └── AssetRefused           host, driver or size is not allowed, or another raster   (proven)
    │       └── AssetMissing       not there, or not given out, as it is served now
    ├── EngineError                deriving the mask
    │   ├── EngineUnavailable      quota, time-out, 5xx (retryable)
    │   └── EngineRefused          an answer that cannot be used, a request that cannot succeed as it stands
    │       └── EngineDenied       credentials, registration, rights                        (ends the run)
    ├── PrefectUnavailable         no answer from the Prefect API that is configured (retryable)
    └── StoreError                 the object store
        ├── StoreUnavailable       no answer or an unknown outcome (retryable)
        ├── StoreRefused           credentials, a missing bucket, a read-only directory     (ends the run)
        │   └── StoreObstructed    something stands in the way of one key alone
        ├── KeyExists              create-only write met an object
        └── WriteConflict          compare-and-swap lost

Every error's text is one line that says what happened and how to mend it.

What an error means for the scene that it meets:

    retryable   a further attempt in the same run may succeed; no other error is tried again at once
    proven      the item itself is wrong: its scene is quarantined, left alone until its item changes
    ends_run    the set-up is at fault, and every scene would fail: the run ends with exit status 2, and
                nothing is noted of the scene

A scene that met any other error, one that nobody expected among them, is tried again by later runs, later and
later, weekly in the end: a fault of the environment is never booked on a scene.
"""

from __future__ import annotations

import copyreg
import errno
import re
from collections.abc import Iterator
from typing import ClassVar

from pc_cloudmask.text import make_printable


class CloudmaskError(Exception):
    """Base of every error that this package raises on purpose; its text may be shown anywhere."""

    retryable: ClassVar[bool] = False
    proven: ClassVar[bool] = False
    ends_run: ClassVar[bool] = False

    def __init__(self, text: str = "") -> None:
        super().__init__(make_printable(text))

    def __reduce__(self) -> tuple[object, ...]:
        """Let a pickle carry the text that was made: not every ``__init__`` takes one."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class SettingsError(CloudmaskError):
    """Wrong usage or settings; nothing was written."""

    ends_run = True


class MachineError(CloudmaskError):
    """This machine lacks memory, disk, a right or a package that every scene needs."""

    ends_run = True


class Unreachable(CloudmaskError):
    """A server that never answered this process is not there, or the way to it is wrong: name, proxy, certificate."""

    ends_run = True


class SourceError(CloudmaskError):
    """The source API or one of its items."""


class SourceUnavailable(SourceError):
    """The source did not answer, or asked to be left alone for a while."""

    retryable = True


class SourceRefused(SourceError):
    """The source answered with something that must not be trusted."""


class SourceMistaken(SourceRefused):
    """What answers is no STAC API, or not one that has the collection."""


class SourceDenied(SourceRefused):
    """The source does not let us in, or wants credentials."""

    ends_run = True


class ItemError(SourceError):
    """One source item cannot become a scene."""

    proven = True

    def __init__(self, item_id: str, field: str, problem: str) -> None:
        super().__init__(f"item {item_id}: {field} {problem}")
        self.item_id = item_id
        self.field = field


class MissingField(ItemError):
    """Fields that the mask needs are absent; ``field`` names them all."""

    def __init__(self, item_id: str, *fields: str) -> None:
        super().__init__(item_id, ", ".join(fields), "is missing" if len(fields) == 1 else "are missing")


class InvalidField(ItemError):
    """A field that the mask needs is present and unusable."""


class AssetError(CloudmaskError):
    """The pixels behind an asset's href."""


class AssetUnavailable(AssetError):
    """An asset could not be read now."""

    retryable = True


class AssetDenied(AssetError):
    """The token service of the assets does not accept our key, or wants one."""

    ends_run = True


class AssetRefused(AssetError):
    """An asset is not where, or not what, it may be."""

    proven = True


class AssetMissing(AssetRefused):
    """An asset is not there, or not given out, as it is served now: asking again at once meets the same."""

    proven = False


class EngineError(CloudmaskError):
    """Deriving the mask failed."""


class EngineUnavailable(EngineError):
    """The engine could not answer now: quota, time-out, server error."""

    retryable = True


class EngineRefused(EngineError):
    """The engine will not answer this request as it stands, or gave an answer that cannot be used."""


class EngineDenied(EngineRefused):
    """The engine does not accept our credentials, or lets them do too little."""

    ends_run = True


class PrefectUnavailable(CloudmaskError):
    """The Prefect API did not answer, or refused us."""

    retryable = True


class StoreError(CloudmaskError):
    """The object store."""


class StoreUnavailable(StoreError):
    """The store did not answer, or the outcome of a write is unknown."""

    retryable = True


class StoreRefused(StoreError):
    """The store is there and does not let us work on it."""

    ends_run = True


class StoreObstructed(StoreRefused):
    """Something stands where one object must be; the others are not concerned."""

    ends_run = False


class KeyExists(StoreError):
    """A create-only write met an existing object."""


class WriteConflict(StoreError):
    """A compare-and-swap write lost against another writer."""


#: What libraries say that have errors of their own for it: GDAL, PROJ and SQLite, onnxruntime, threads.
_NO_MEMORY = re.compile(
    r"out of memory|(cannot|unable to|failed to|can't) (allocate|start new thread)"
    r"|bad_alloc|failed to map segment",
    re.IGNORECASE,
)
#: Of the system's errors those that every scene would meet; others pass, or concern one file.
_MACHINE_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
        *(errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    }
)


def find_machine_fault(error: Exception) -> MachineError | None:
    """Return what to say if an error that is not ours tells of a fault of this machine, else None."""
    causes = _list_causes(error)
    if any(isinstance(each, MemoryError) or _NO_MEMORY.search(str(each)) for each in causes):
        return MachineError(
            f"this machine has no memory left ({str(error) or type(error).__name__}): let fewer scenes run side by "
            "side (CLOUDMASK_WORKERS), or give it more"
        )
    if isinstance(error, ImportError):
        return MachineError(f"a package is missing or broken ({error}): install pc-cloudmask again")
    if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
        where = f" ({error.filename})" if error.filename else ""
        return MachineError(f"this machine refuses: {error.strerror}{where}: mend it, and run again")
    return None


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a chain may lead in a circle
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
