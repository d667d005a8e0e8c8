"""The tree of errors.

    CloudmaskError
    ├── SettingsError              wrong usage or settings: exit status 2
    ├── SourceError                the source API or one of its items
    │   ├── SourceUnavailable      no answer, 429, 5xx (retryable)
    │   ├── SourceRefused          an answer that breaks a rule of ours: size, host, form
    │   └── ItemError              one item cannot become a scene
    │       ├── MissingField       … because a field is absent
    │       └── InvalidField       … because a field is there and wrong
    ├── AssetError                 the pixels of an asset
    │   ├── AssetUnavailable       could not be read now (retryable)
    │   └── AssetRefused           host, driver or size is not allowed, or it is not what it claims
    ├── EngineError                deriving the mask
    │   ├── EngineUnavailable      quota, time-out, 5xx (retryable)
    │   └── EngineRefused          credentials, registration, a request that can never succeed
    ├── PrefectUnavailable         no answer from the Prefect API that is configured (retryable)
    └── StoreError                 the object store
        ├── StoreUnavailable       no answer or an unknown outcome (retryable)
        ├── StoreRefused           credentials, a missing bucket, a read-only directory
        ├── KeyExists              create-only write met an object
        └── WriteConflict          compare-and-swap lost

Every error's text is one line that says what happened and how to mend it. Only errors whose
``retryable`` is true are retried.
"""

from __future__ import annotations

import copyreg
from typing import ClassVar

from pc_cloudmask.text import make_printable


class CloudmaskError(Exception):
    """Base of every error that this package raises on purpose; its text may be shown anywhere."""

    retryable: ClassVar[bool] = False

    def __init__(self, text: str = "") -> None:
        super().__init__(make_printable(text))

    def __reduce__(self) -> tuple[object, ...]:
        """Let a pickle carry the text that was made: not every ``__init__`` takes one."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class SettingsError(CloudmaskError):
    """Wrong usage or settings; nothing was written."""


class SourceError(CloudmaskError):
    """The source API or one of its items."""


class SourceUnavailable(SourceError):
    """The source did not answer, or asked to be left alone for a while."""

    retryable = True


class SourceRefused(SourceError):
    """The source answered with something that must not be trusted."""


class ItemError(SourceError):
    """One source item cannot become a scene."""

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


class AssetRefused(AssetError):
    """An asset is not where, or not what, it may be."""


class EngineError(CloudmaskError):
    """Deriving the mask failed."""


class EngineUnavailable(EngineError):
    """The engine could not answer now: quota, time-out, server error."""

    retryable = True


class EngineRefused(EngineError):
    """The engine will never answer this request as it stands."""


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


class KeyExists(StoreError):
    """A create-only write met an existing object."""


class WriteConflict(StoreError):
    """A compare-and-swap write lost against another writer."""
