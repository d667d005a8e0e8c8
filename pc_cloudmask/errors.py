"""The tree of errors, all below ``CloudmaskError``.

Every error's text is one line that says what happened and how to mend it. What an error means for the scene that it
meets:

    retryable   a retry in the same run may succeed; no other error is retried at once
    proven      the item itself is wrong: its scene is quarantined, left alone until its item changes
    ends_run    the setup is at fault, and every scene would fail: the run ends with exit status 2, and
                nothing is recorded about the scene

After any other error, including unexpected ones, later runs try the scene again, at growing intervals up to a week: a
fault of the environment is never attributed to a scene.
"""

from __future__ import annotations

import copyreg
import errno
import re
from collections.abc import Iterator
from typing import ClassVar

from pc_cloudmask.text import make_printable


class CloudmaskError(Exception):
    """Base of every error that this package raises intentionally; its text is safe to show anywhere."""

    retryable: ClassVar[bool] = False
    proven: ClassVar[bool] = False
    ends_run: ClassVar[bool] = False

    def __init__(self, text: str = "") -> None:
        super().__init__(make_printable(text))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the text itself: not every ``__init__`` accepts one."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class SettingsError(CloudmaskError):
    """Wrong usage or settings; nothing was written."""

    ends_run = True


class MachineError(CloudmaskError):
    """This machine lacks memory, disk, a right or a package that every scene needs."""

    ends_run = True


class Unreachable(CloudmaskError):
    """A server that never answered this process does not exist, or the way to it is wrong: name, proxy, certificate."""

    ends_run = True


class SourceError(CloudmaskError):
    """The source API or one of its items."""


class SourceUnavailable(SourceError):
    """The source did not answer, or asked us to wait: 429, 5xx."""

    retryable = True


class SourceRefused(SourceError):
    """The source's answer breaks one of our rules: size, host, form."""


class SourceMistaken(SourceRefused):
    """What answered is not a STAC API, or not one with this collection: its URL may be wrong."""


class SourceDenied(SourceRefused):
    """The source refuses access, or requires credentials: 401, 403."""

    ends_run = True


class ItemError(SourceError):
    """One source item cannot become a scene."""

    proven = True

    def __init__(self, item_id: str, field: str, problem: str) -> None:
        super().__init__(f"item {item_id}: {field} {problem}")
        self.item_id = item_id
        self.field = field


class MissingField(ItemError):
    """Fields that the mask needs are missing; ``field`` names them all."""

    def __init__(self, item_id: str, *fields: str) -> None:
        super().__init__(item_id, ", ".join(fields), "is missing" if len(fields) == 1 else "are missing")


class InvalidField(ItemError):
    """A field that the mask needs exists but cannot be used."""


class AssetError(CloudmaskError):
    """The pixels behind an asset's href."""


class AssetUnavailable(AssetError):
    """An asset cannot be read at present."""

    retryable = True


class AssetDenied(AssetError):
    """The token service of the assets does not accept our key, or requires one."""

    ends_run = True


class AssetRefused(AssetError):
    """An asset's host, driver or size is not allowed, or it is another raster than its item says."""

    proven = True


class AssetMissing(AssetRefused):
    """An asset does not exist, or access is refused, at present: an immediate retry would fail in the same way."""

    proven = False


class EngineError(CloudmaskError):
    """Deriving the mask failed."""


class EngineUnavailable(EngineError):
    """The engine cannot answer at present: quota, time-out, server error."""

    retryable = True


class EngineRefused(EngineError):
    """The engine gave an unusable answer, or rejects a request that cannot succeed as it is."""


class EngineDenied(EngineRefused):
    """The engine does not accept our credentials, or their permissions are insufficient."""

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
    """The store does not let us work on it: credentials, a missing bucket, a read-only directory."""

    ends_run = True


class StoreObstructed(StoreRefused):
    """Something blocks the place of one object; others are not affected."""

    ends_run = False


class KeyExists(StoreError):
    """A create-only write met an existing object."""


class WriteConflict(StoreError):
    """A compare-and-swap write lost against another writer."""


#: Messages of libraries with their own errors for lack of memory: GDAL, PROJ and SQLite, onnxruntime, threads.
_NO_MEMORY = re.compile(
    r"out of memory|(cannot|unable to|failed to|can't) (allocate|start new thread)"
    r"|bad_alloc|failed to map segment",
    re.IGNORECASE,
)
#: System errors that every scene would meet; others are momentary or concern a single file.
_MACHINE_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
        *(errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    }
)


def find_machine_fault(error: Exception) -> MachineError | None:
    """Return the error for a fault of this machine if ``error``, which is not ours, shows one, else None."""
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
    while error is not None and id(error) not in seen:  # a chain may be circular
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
